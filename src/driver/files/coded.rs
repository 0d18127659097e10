//! Compressed files, kept so that each version of a file is compressed once.

use std::collections::HashMap;

use crate::base::buffer::SharedFrame;

/// Bytes of compressed files that are kept; those go that were asked for longest ago.
pub(crate) const CODED_FILES_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many of them: files that do not shrink take no bytes, but are remembered too.
const CODED_FILES_MAX: usize = 1024;

/// Which file, and in which coding.
pub(super) type CodedKey = (String, &'static str);

#[derive(Debug, Default)]
pub(super) struct CodedFiles {
    files: HashMap<CodedKey, Coded>,
    bytes: usize,
    /// Counts the uses.
    now: u64,
}

#[derive(Debug)]
struct Coded {
    /// The version that was compressed.
    tag: String,
    /// Nothing: it is not worth it.
    body: Option<SharedFrame>,
    last_used: u64,
}

impl CodedFiles {
    /// What is known of this version of a file: its compressed form, or that there is none.
    pub(super) fn get(&mut self, key: &CodedKey, tag: &str) -> Option<Option<SharedFrame>> {
        self.now += 1;
        let coded = self.files.get_mut(key).filter(|coded| coded.tag == tag)?;
        coded.last_used = self.now;
        Some(coded.body.clone())
    }

    /// Keeps a version in the place of an earlier one.
    pub(super) fn keep(&mut self, key: CodedKey, tag: String, body: Option<SharedFrame>) {
        let bytes = body.as_ref().map_or(0, |body| body.len());
        self.now += 1;
        self.forget(&key);
        while self.bytes + bytes > CODED_FILES_BYTES_MAX || self.files.len() >= CODED_FILES_MAX {
            let oldest =
                self.files.iter().min_by_key(|(_, coded)| coded.last_used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.forget(&oldest);
        }
        self.bytes += bytes;
        self.files.insert(key, Coded { tag, body, last_used: self.now });
    }

    fn forget(&mut self, key: &CodedKey) {
        if let Some(coded) = self.files.remove(key) {
            self.bytes -= coded.body.map_or(0, |body| body.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: impl ToString) -> CodedKey {
        (name.to_string(), "gzip")
    }

    #[test]
    fn a_version_is_known_until_another_takes_its_place() {
        let mut files = CodedFiles::default();
        assert_eq!(files.get(&key("a"), "1"), None);
        files.keep(key("a"), "1".into(), Some(SharedFrame::new(vec![1])));
        files.keep(key("b"), "1".into(), None);
        assert_eq!(files.get(&key("a"), "1"), Some(Some(SharedFrame::new(vec![1]))));
        assert_eq!(files.get(&key("b"), "1"), Some(None), "it is known that it does not shrink");
        assert_eq!(files.get(&("a".into(), "deflate"), "1"), None);
        files.keep(key("a"), "2".into(), Some(SharedFrame::new(vec![2, 2])));
        assert_eq!((files.get(&key("a"), "1"), files.bytes), (None, 2));
    }

    #[test]
    fn those_go_that_were_asked_for_longest_ago() {
        let mut files = CodedFiles::default();
        let large = || Some(SharedFrame::new(vec![0; CODED_FILES_BYTES_MAX / 4]));
        for name in 0..4 {
            files.keep(key(name), "1".into(), large());
        }
        assert!(files.get(&key(0), "1").is_some());
        files.keep(key(4), "1".into(), large());
        assert!(files.get(&key(1), "1").is_none(), "the oldest has given way");
        assert!(files.get(&key(0), "1").is_some() && files.get(&key(4), "1").is_some());
        for name in 10..10 + 2 * CODED_FILES_MAX {
            files.keep(key(name), "1".into(), None);
        }
        assert!(files.files.len() <= CODED_FILES_MAX && files.bytes <= CODED_FILES_BYTES_MAX);
        files.keep(key("huge"), "1".into(), Some(SharedFrame::new(vec![0; CODED_FILES_BYTES_MAX + 1])));
        assert_eq!((files.files.len(), files.bytes), (0, 0), "what is larger than all of it is not kept");
    }
}
