//! Folders that a server is told to serve: one that is missing is said at the start, not found out by its visitors.

use std::path::{Path, PathBuf};

/// Warns of each folder that is not there. It may come later, so this is no error.
pub(crate) fn warn_of_missing(folders: &[(String, PathBuf)]) {
    for (url, folder) in folders.iter().filter(|(_, folder)| !folder.is_dir()) {
        let folder = whole(folder);
        tracing::warn!(url, %folder, "static_folder: no such folder; everything below this URL is answered 404");
    }
}

/// With the folder that a relative one is looked up in: that is often what is wrong.
fn whole(folder: &Path) -> String {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_whole() {
        assert_eq!(whole(Path::new("/a/b")), "/a/b");
        assert!(
            whole(Path::new("public")).ends_with("/public") && whole(Path::new("public")).starts_with('/')
        );
    }
}
