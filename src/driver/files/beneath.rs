//! Opens files that lie in a folder, and no others, whatever is swapped for a link meanwhile.
//!
//! The kernel follows links within the folder by itself (openat2, Linux 5.6). Where it may not be asked (an older kernel, a
//! filter of system calls), and for links that are absolute, the links are followed beforehand and the path that comes of it is
//! walked without any: one that appears meanwhile ends the walk.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Not blocking: a pipe in the folder must not hold the thread up.
const READING: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How often a path is tried whose folders are being renamed.
const TRIES: usize = 4;

/// Opens the file at `path` below `root`.
pub(super) fn open(root: &Path, path: &str) -> Result<File, Errno> {
    let folder = openat(CWD, root, FOLDER, Mode::empty())?;
    let found = match open_by_kernel(&folder, path) {
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::XDEV | Errno::AGAIN) => {
            open_by_walking(folder, root, path)?
        }
        found => found?,
    };
    Ok(File::from(found))
}

fn open_by_kernel(folder: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut found = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        found = openat2(folder, path, READING, Mode::empty(), resolve);
        if !matches!(found, Err(Errno::AGAIN)) {
            break;
        }
    }
    found
}

fn open_by_walking(folder: OwnedFd, root: &Path, path: &str) -> Result<OwnedFd, Errno> {
    let (Ok(root), Ok(real)) = (root.canonicalize(), root.join(path).canonicalize()) else {
        return Err(Errno::NOENT);
    };
    let Ok(inside) = real.strip_prefix(&root) else {
        tracing::warn!(?path, "a symbolic link leads out of a static folder; not served");
        return Err(Errno::NOENT);
    };
    walk(folder, inside)
}

/// Opens a path whose every component is what it seems.
fn walk(folder: OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let mut at = folder;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else { return Err(Errno::NOENT) };
        let flags = if components.peek().is_some() { FOLDER } else { READING };
        at = openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        if components.peek().is_none() {
            return Ok(at);
        }
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A folder with files and links, beside a secret.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let place = std::env::temp_dir().join(format!("shardcast-beneath-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&place);
            std::fs::create_dir_all(place.join("www/sub")).unwrap();
            std::fs::write(place.join("secret"), "secret").unwrap();
            std::fs::write(place.join("www/page"), "page").unwrap();
            std::fs::write(place.join("www/sub/page"), "sub page").unwrap();
            Place(place)
        }

        fn root(&self) -> PathBuf {
            self.0.join("www")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn text(file: Result<impl Into<File>, Errno>) -> Option<String> {
        let mut text = String::new();
        file.ok()?.into().read_to_string(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn links_within_the_folder_are_followed_and_no_others() {
        let place = Place::new("links");
        let root = place.root();
        symlink("sub/page", root.join("inside")).unwrap();
        symlink(root.join("sub/page"), root.join("absolute")).unwrap();
        symlink(root.join("sub"), root.join("folder")).unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        symlink(place.0.join("secret"), root.join("outside-absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        let rows = [
            ("page", Some("page")),
            ("sub/page", Some("sub page")),
            ("inside", Some("sub page")),
            ("absolute", Some("sub page")),
            ("folder/page", Some("sub page")),
            ("outside", None),
            ("outside-absolute", None),
            ("up/secret", None),
            ("../secret", None),
            ("none", None),
        ];
        for (path, expected) in rows {
            assert_eq!(text(open(&root, path)).as_deref(), expected, "{path}");
            let folder = openat(CWD, &root, FOLDER, Mode::empty()).unwrap();
            assert_eq!(
                text(open_by_walking(folder, &root, path)).as_deref(),
                expected,
                "{path} without openat2"
            );
        }
        assert_eq!(text(open(&root, "/etc/hostname")), None);
    }

    #[test]
    fn a_link_that_appears_after_the_check_ends_the_walk() {
        let place = Place::new("swap");
        let root = place.root();
        let folder = || openat(CWD, &root, FOLDER, Mode::empty()).unwrap();
        std::fs::remove_file(root.join("page")).unwrap();
        symlink("../secret", root.join("page")).unwrap();
        assert_eq!(walk(folder(), Path::new("page")).err(), Some(Errno::LOOP));
        std::fs::remove_dir_all(root.join("sub")).unwrap();
        symlink("..", root.join("sub")).unwrap();
        assert!(walk(folder(), Path::new("sub/secret")).is_err());
    }

    #[test]
    fn a_file_that_is_swapped_all_the_time_never_leads_out() {
        let place = Place::new("race");
        let root = place.root();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (file, link, at) = (root.join("file"), root.join("link"), root.join("at"));
                while !is_over.load(Ordering::Relaxed) {
                    std::fs::write(&file, "page").unwrap();
                    std::fs::rename(&file, &at).unwrap();
                    symlink(place.0.join("secret"), &link).unwrap();
                    std::fs::rename(&link, &at).unwrap();
                }
            });
            for _ in 0..3_000 {
                let found = text(open(&root, "at")).unwrap_or_default();
                let folder = openat(CWD, &root, FOLDER, Mode::empty()).unwrap();
                let walked = text(open_by_walking(folder, &root, "at")).unwrap_or_default();
                assert!(!found.contains("secret") && !walked.contains("secret"));
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
