//! Reads the certificates again when somebody asks for it, or when their files have changed.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender};

use crate::driver::tls::certificates::Certificates;

/// The thread that looks at the files. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    certificates: Arc<Certificates>,
    _end: Sender<()>,
}

impl Watch {
    /// Looks at the files again and again, so long after the last time.
    pub(crate) fn start(certificates: &Arc<Certificates>, interval: Duration) -> Result<Watch, String> {
        let (end, ended) = crossbeam_channel::bounded(0);
        let watched = Arc::clone(certificates);
        let mut seen = stamps(certificates);
        let look = move || {
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let now = stamps(&watched);
                if now != std::mem::replace(&mut seen, now.clone()) {
                    reload(&watched);
                }
            }
        };
        let thread = std::thread::Builder::new().name("certificates".to_owned()).spawn(look);
        thread.map_err(|error| format!("cannot watch the certificates: {error}"))?;
        Ok(Watch { certificates: Arc::clone(certificates), _end: end })
    }

    /// What reads the certificates again, for whoever is to ask for it.
    pub(crate) fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates)
    }
}

/// Reads the files again and says how it went. Connections that are there go on with what they began with.
pub(crate) fn reload(certificates: &Certificates) {
    match certificates.reload() {
        Ok(()) => tracing::info!(certificates = certificates.files.len(), "the certificates were read again"),
        Err(fault) => tracing::error!("{fault}; the certificates that were there before are still used"),
    }
}

/// What tells a file that was changed from one that was not: a renewal may put another file, or a link to another, in its place.
fn stamps(certificates: &Certificates) -> Vec<Option<(u64, i64, i64, u64)>> {
    let paths = certificates.files.iter().flat_map(|(certificate, key)| [certificate, key]);
    let stamp = |path: &String| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
    };
    paths.map(stamp).collect()
}
