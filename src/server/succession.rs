//! What signals do to a server that [`run`](crate::Server::run) runs, and what the service manager hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;

use crate::driver::handover::Estate;
use crate::driver::signals::{Asked, WatchedSignals};
use crate::driver::systemd;
use crate::mesh::Mesh;
use crate::server::handle::Handle;
use crate::server::{Error, Result, RunningServer, reload};

/// Everything serves: signals are heeded from now on, and the service manager hears of it.
pub(super) fn begin(signals: WatchedSignals, server: &mut RunningServer) -> Result<()> {
    let (handle, mesh) = (server.handle(), Arc::clone(&server.running.mesh));
    let estate = server.running.estate.take().map(Arc::new);
    let is_under_way = Arc::new(AtomicBool::new(false));
    let reloads = begin_reloads(server)?;
    systemd::watch(&mesh)?;
    signals.listen(move |asked| match (asked, &estate) {
        (Asked::Drain, _) => {
            systemd::notify("STOPPING=1");
            handle.drain();
        }
        (Asked::Stop, _) => {
            systemd::notify("STOPPING=1");
            handle.stop_at_once();
        }
        (Asked::HandOver, Some(estate)) => {
            let (handle, mesh, estate) = (handle.clone(), Arc::clone(&mesh), Arc::clone(estate));
            if mesh.is_stopping() || is_under_way.swap(true, Ordering::SeqCst) {
                return tracing::warn!("SIGUSR2: the server ends, or is handed over already");
            }
            let is_under_way = Arc::clone(&is_under_way);
            let work = move || {
                hand_over(&handle, &mesh, &estate);
                is_under_way.store(false, Ordering::SeqCst);
            };
            if let Err(error) = std::thread::Builder::new().name("handover".to_owned()).spawn(work) {
                tracing::error!(%error, "SIGUSR2: no thread for the hand-over; this process goes on");
            }
        }
        // One that is not begun reads what this one would.
        (Asked::Reload, _) => _ = reloads.try_send(()),
        (Asked::HandOver, None) => {}
    })?;
    systemd::notify("READY=1");
    Ok(())
}

/// A thread that reads settings again whenever it is asked to: files may be slow, and signals go on.
fn begin_reloads(server: &RunningServer) -> Result<Sender<()>> {
    let (sender, asked) = crossbeam_channel::bounded(1);
    let (handle, reload_certificates) = (server.handle(), server.running.certificates_reloader());
    let work = move || asked.iter().for_each(|()| reload::at_signal(&handle, reload_certificates.as_ref()));
    let thread = std::thread::Builder::new().name("reloads".to_owned()).spawn(work);
    thread
        .map_err(|error| Error::new(format!("cannot start the thread that reads settings again: {error}")))?;
    Ok(sender)
}

fn hand_over(handle: &Handle, mesh: &Mesh, estate: &Estate) {
    tracing::info!("SIGUSR2: starting this program anew, with the listeners");
    match estate.bequeath() {
        Ok(process) => {
            tracing::info!(process, "the new process serves: this one accepts nothing more, and drains");
            systemd::notify(&format!("MAINPID={process}"));
            mesh.life.bequeath();
            if mesh.is_stopping() { mesh.ring_all() } else { handle.drain() }
        }
        Err(fault) => tracing::error!("SIGUSR2: {fault}; this process goes on"),
    }
}
