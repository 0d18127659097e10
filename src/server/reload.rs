//! Settings that change while the server runs: at SIGHUP, from where they were read at the start, or by [`Handle::reload`].
//!
//! `config/reload.rs` says which they are; the mesh carries the new configuration to every shard. What reads other files anew at
//! SIGHUP has its place in [`at_signal`].

use std::sync::Arc;

use crate::config::Config;
use crate::config::reload::{Change, Fate, OF_THE_LOG};
use crate::driver;
use crate::driver::systemd;
use crate::server::handle::Handle;
use crate::server::memory::{self, Largest};
use crate::server::running::{Check, Reloads};
use crate::server::{Error, Result, load};

/// What [`Handle::reload`] has done: names of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// They have a new value from now on.
    pub changed: Vec<String>,
    /// They have a new value after a restart. They are named each time until then.
    pub needs_restart: Vec<String>,
    /// The program has set another value itself than was read at the start, and that stays.
    pub overruled: Vec<String>,
}

/// What the configuration comes to when it is to be this one.
fn renewed(reloads: &Reloads, running: &Config, fresh: &Config) -> Result<(Config, Vec<Change>)> {
    let read = reloads.read.as_ref().filter(|_| fresh.source.is_known());
    let (config, mut changes) = running.renewed((&reloads.began, read), fresh)?;
    if !has_own_log() {
        let of_the_log = changes.iter_mut().filter(|change| OF_THE_LOG.contains(&change.name));
        of_the_log.for_each(|change| change.fate = Fate::Overruled);
    }
    reloads.check(&config)?;
    Ok((config, changes))
}

/// What has to be true of a new configuration, now that the server serves operators there, if others than this machine can reach that.
pub(super) fn check_for(open_admin: Option<String>, (largest, queues): (Largest, usize)) -> Check {
    Box::new(move |config| {
        if let Some(address) = open_admin.as_ref().filter(|_| !config.has_admin_credentials()) {
            return Err(format!(
                "operators are served at {address}, which others than this machine can reach, and it would need no credentials any \
                 more: set admin_token, or admin_user and admin_password"
            ));
        }
        memory::announce(config, largest, queues).map_err(|fault| fault.to_string())
    })
}

impl Handle {
    /// Gives the running server another configuration. Settings of which [`Config::is_reloadable`] says so count from now on, on all
    /// shards; of the others the log says that they need a restart, with the old value and the new one. Returns at once: a shard takes
    /// it when it next looks for messages.
    ///
    /// SIGHUP does it with what is read from where [`Server::run`](crate::Server::run)'s configuration came from; a value that the program has set itself
    /// after it was read stays. A program that makes its configuration itself calls this with another one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardcast::testing::TestServer;
    /// use shardcast::{Config, Server};
    ///
    /// let config = Config { shards: 2, ..Config::default() };
    /// let server = TestServer::new(Server::new(config.clone()).namespace("/", |_| {})).unwrap();
    /// let drain_delay = Duration::from_secs(5);
    /// let reloaded = server.handle().reload(Config { shards: 4, drain_delay, ..config.clone() })?;
    /// assert_eq!((reloaded.changed, reloaded.needs_restart), (vec!["drain_delay".into()], vec!["shards".into()]));
    /// assert_eq!(server.handle().config().unwrap().drain_delay, drain_delay);
    /// # Ok::<(), shardcast::Error>(())
    /// ```
    ///
    /// # Errors
    /// A configuration that makes no sense: nothing of it is taken. A server that does not run.
    pub fn reload(&self, config: Config) -> Result<Reloaded> {
        let Some(shared) = self.shared() else { return Err(Error::new("the server does not run")) };
        let mut running = shared.reloads.lock();
        let (renewed, changes) = renewed(&shared.reloads, &running, &config)?;
        if changes.iter().any(|change| change.fate == Fate::Done) {
            *running = Arc::new(renewed.clone());
            let outboxes_bytes_max = driver::outboxes_bytes_max(&renewed);
            shared.mesh.renew_settings(Arc::new(Config { outboxes_bytes_max, ..renewed }));
            renew_log(&running, &changes);
        }
        Ok(told(&changes))
    }

    /// The configuration that the server runs with now; `None` before it runs.
    pub fn config(&self) -> Option<Arc<Config>> {
        self.shared().map(|shared| shared.reloads.config())
    }
}

/// Says in the log what has become of changes.
fn told(changes: &[Change]) -> Reloaded {
    let mut reloaded = Reloaded::default();
    for Change { name, before, after, fate } in changes {
        let names = match fate {
            Fate::Done => {
                tracing::info!(setting = name, before, after, "a setting has changed");
                &mut reloaded.changed
            }
            Fate::NeedsRestart => {
                tracing::warn!(setting = name, running = before, new = after, "a new value needs a restart");
                &mut reloaded.needs_restart
            }
            Fate::Overruled => {
                tracing::info!(
                    setting = name,
                    before,
                    after,
                    "a new value is not taken: the program or its command line sets this itself"
                );
                &mut reloaded.overruled
            }
        };
        names.push((*name).to_owned());
    }
    reloaded
}

#[cfg(feature = "log")]
fn has_own_log() -> bool {
    crate::server::log::is_ours()
}

#[cfg(not(feature = "log"))]
fn has_own_log() -> bool {
    false
}

#[cfg(feature = "log")]
fn renew_log(config: &Config, changes: &[Change]) {
    let is_changed = |change: &Change| change.fate == Fate::Done && OF_THE_LOG.contains(&change.name);
    if changes.iter().any(is_changed)
        && let Err(fault) = crate::server::log::renew(config)
    {
        tracing::error!("the log keeps its levels: {fault}");
    }
}

#[cfg(not(feature = "log"))]
fn renew_log(_: &Config, _: &[Change]) {}

/// What SIGHUP does: everything that can be read anew is, and the service manager hears when that is done.
pub(super) fn at_signal(handle: &Handle, reload_certificates: Option<&impl Fn()>) {
    systemd::notify_reloading();
    if let Err(fault) = read_again(handle) {
        tracing::error!("SIGHUP: {fault}; all settings stay as they were");
    }
    if let Some(reload) = reload_certificates {
        reload();
    }
    systemd::notify("READY=1");
}

fn read_again(handle: &Handle) -> Result<()> {
    let Some(shared) = handle.shared() else { return Ok(()) };
    let Some(sources) = shared.reloads.began.source.sources() else {
        tracing::info!(
            "SIGHUP: this program makes its settings itself, so there is nothing to read again; Handle::reload gives it others"
        );
        return Ok(());
    };
    let reloaded = handle.reload(load::read(sources.clone())?)?;
    let (changed, needs_restart) = (reloaded.changed.len(), reloaded.needs_restart.len());
    tracing::info!(changed, needs_restart, "SIGHUP: the settings were read again");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tuning_page_lists_what_counts_at_once() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning.md");
        let page = std::fs::read_to_string(path).expect("tuning.md");
        let (_, section) = page.split_once("### Without a restart").expect("the section is there");
        let (list, _) = section.split_once("\n\nWhoever").expect("the list has an end");
        let mut listed: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        let mut reloadable: Vec<&str> =
            Config::KEYS.iter().copied().filter(|key| Config::is_reloadable(key)).collect();
        listed.sort_unstable();
        reloadable.sort_unstable();
        assert_eq!(listed, reloadable, "left: tuning.md, right: the code");
    }
}
