//! Where a configuration was read, so that it can be read again.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

/// Where a [`Config`](crate::Config) was read: [`Config::load`](crate::Config::load) and its like note it, so that SIGHUP can read the same again. Shown, it is the
/// path of the file; what variables and arguments said may be secret.
///
/// ```
/// use shardcast::Config;
///
/// assert!(!Config::default().source.is_known());
/// assert!(Config::load_with(None, std::iter::empty())?.source.is_known());
/// # Ok::<(), shardcast::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Source(Option<Arc<Sources>>);

/// What is read for a configuration.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    /// An absolute path.
    pub(crate) file: Option<PathBuf>,
    /// Those that are named like settings. Nobody changes the environment of a process that runs.
    pub(crate) variables: Vec<(String, String)>,
    /// Settings among the program's arguments.
    pub(crate) arguments: Vec<(String, String)>,
    /// What all of them said.
    pub(crate) said: Map<String, Value>,
}

impl Source {
    pub(crate) fn new(sources: Sources) -> Source {
        Source(Some(Arc::new(sources)))
    }

    /// Whether the configuration was read at all, and not made in code alone.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn sources(&self) -> Option<&Sources> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_ref().map(|sources| &sources.file) {
            None => formatter.write_str("none"),
            Some(None) => formatter.write_str("environment"),
            Some(Some(file)) => write!(formatter, "{}", file.display()),
        }
    }
}
