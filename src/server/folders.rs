//! Folders that a server is told to serve: one that is missing is said at the start, not found out by its visitors.

use std::path::{Path, PathBuf};

use crate::config::engine::EngineOptions;

/// Warns of each folder that is not there. It may come later, so this is no error.
pub(crate) fn warn_of_missing<'a>(
    folders: &[(String, PathBuf)],
    endpoints: impl Iterator<Item = &'a EngineOptions>,
) {
    for (url, folder) in folders.iter().filter(|(_, folder)| !folder.is_dir()) {
        let folder = whole(folder);
        tracing::warn!(url, %folder, "static_folder: no such folder; everything below this URL is answered 404");
    }
    for options in endpoints.filter(|options| is_bundle_missing(&options.client_bundle)) {
        let (url, folder) = (&options.path, whole(&options.client_bundle));
        tracing::warn!(
            url,
            %folder,
            "client_bundle: no socket.io.js or socket.io.min.js is in this folder; it is to be one like npm's socket.io-client/dist"
        );
    }
}

/// Empty means that none is served.
fn is_bundle_missing(folder: &Path) -> bool {
    !folder.as_os_str().is_empty()
        && !["socket.io.js", "socket.io.min.js"].iter().any(|name| folder.join(name).is_file())
}

/// With the folder that a relative one is looked up in: that is often what is wrong.
fn whole(folder: &Path) -> String {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_there_if_one_of_its_files_is() {
        let folder = std::env::temp_dir().join(format!("shardcast-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(is_bundle_missing(&folder) && is_bundle_missing(&folder.join("none")));
        assert!(!is_bundle_missing(Path::new("")), "none is served");
        std::fs::write(folder.join("socket.io.min.js"), "").unwrap();
        assert!(!is_bundle_missing(&folder));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_is_named_whole() {
        assert_eq!(whole(Path::new("/a/b")), "/a/b");
        assert!(
            whole(Path::new("public")).ends_with("/public") && whole(Path::new("public")).starts_with('/')
        );
    }
}
