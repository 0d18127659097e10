//! What this machine allows: CPUs, descriptors, and which of the kernel's interfaces.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::Io;
use crate::driver::ring;

/// Which of the kernel's interfaces moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// An io_uring of our own: the ring wire.
    Ring,
    /// monoio on io_uring; with SINGLE_ISSUER and DEFER_TASKRUN where the kernel knows them.
    #[cfg(feature = "epoll")]
    Uring { defers: bool },
    #[cfg(feature = "epoll")]
    Epoll,
}

/// The choice, and the words that explain it.
#[derive(Clone, Debug)]
pub(crate) struct IoChosen {
    pub(crate) backend: Backend,
    pub(crate) why: String,
}

impl IoChosen {
    /// The interface's name.
    pub(crate) fn name(&self) -> &'static str {
        match self.backend {
            Backend::Ring => "io_uring",
            #[cfg(feature = "epoll")]
            Backend::Uring { .. } => "io_uring",
            #[cfg(feature = "epoll")]
            Backend::Epoll => "epoll",
        }
    }
}

/// CPUs this process may use.
#[derive(Debug)]
pub(crate) struct Cpus {
    /// By the kernel's numbers.
    cores: Vec<usize>,
    /// What the cgroup allows, in whole CPUs, if it says.
    quota: Option<usize>,
}

impl Cpus {
    pub(crate) fn shards_default(&self) -> usize {
        let cores = self.cores.len().max(1);
        self.quota.map_or(cores, |quota| quota.clamp(1, cores))
    }

    /// The core of a shard; none when there are more shards than cores, since two pinned threads on one
    /// core would starve each other while another core idles.
    pub(crate) fn core_of(&self, shard: usize, shards: usize) -> Option<usize> {
        if shards > self.cores.len() { None } else { self.cores.get(shard).copied() }
    }
}

/// The CPUs of the affinity mask, and the cgroup's quota.
pub(crate) fn usable_cpus() -> Cpus {
    let cores = sched_getaffinity(None)
        .map(|mask| (0..CpuSet::MAX_CPU).filter(|core| mask.is_set(*core)).collect())
        .unwrap_or_default();
    Cpus { cores, quota: cgroup_quota() }
}

/// Keeps this thread on one core. False if the kernel does not allow it.
pub(crate) fn pin_to(core: usize) -> bool {
    let mut mask = CpuSet::new();
    mask.set(core);
    sched_setaffinity(None, &mask).is_ok()
}

fn cgroup_quota() -> Option<usize> {
    let text = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok()?;
    parse_quota(&text)
}

/// `cpu.max` of cgroup v2: microseconds allowed in each period, or `max`.
fn parse_quota(text: &str) -> Option<usize> {
    let mut words = text.split_whitespace();
    let allowed: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    (period > 0.0).then(|| (allowed / period).ceil().max(1.0) as usize)
}

/// Bytes of memory that this process may use: the machine's, or what the cgroup allows.
pub(crate) fn usable_memory() -> usize {
    let info = rustix::system::sysinfo();
    let machine = usize::try_from(info.totalram).unwrap_or(usize::MAX).saturating_mul(info.mem_unit as usize);
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    limit.and_then(|text| text.trim().parse().ok()).map_or(machine, |limit: usize| limit.min(machine))
}

/// Raises the descriptor limit as far as this process may, and says how far that is.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let is_raised = setrlimit(Resource::Nofile, wanted).is_ok();
    let now = getrlimit(Resource::Nofile).current;
    let shown = now.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    if is_raised {
        tracing::info!(limit = %shown, "descriptors");
    } else {
        tracing::warn!(limit = %shown, "descriptors: the limit could not be raised (ulimit -Hn)");
    }
}

/// 32 bytes from the kernel's random source.
pub(crate) fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        match rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => unreachable!("getrandom works on every kernel since 3.17: {error}"),
        }
    }
    seed
}

/// Chooses the interface; `uring` fails with the reason and the fix where `auto` falls back.
pub(crate) fn choose_io(io: Io) -> Result<IoChosen, String> {
    if matches!(io, Io::Auto | Io::Uring) && ring::probe().is_ok() {
        let why =
            "ring wire: SINGLE_ISSUER + DEFER_TASKRUN, multishot receive into shared buffers, batched sends";
        return Ok(IoChosen { backend: Backend::Ring, why: why.to_owned() });
    }
    choose_portable(io)
}

/// The ring wire is not asked for, or cannot be had, and there is no other.
#[cfg(not(feature = "epoll"))]
fn choose_portable(io: Io) -> Result<IoChosen, String> {
    const REMEDY: &str = "build shardcast with its feature epoll";
    let reason = match (io, probe_uring()) {
        (Io::Epoll | Io::Monoio, _) => {
            return Err(format!("io = {io:?}, but this program has the ring wire only; {REMEDY}"));
        }
        (_, Err(reason)) => reason,
        (_, Ok(_)) => "the ring wire needs Linux 6.1".to_owned(),
    };
    Err(format!("io = {io:?}, but io_uring cannot be had: {reason}; {REMEDY} to serve without it"))
}

#[cfg(feature = "epoll")]
fn choose_portable(io: Io) -> Result<IoChosen, String> {
    if io == Io::Epoll {
        return Ok(IoChosen { backend: Backend::Epoll, why: "monoio, as asked by io = epoll".to_owned() });
    }
    match probe_uring() {
        Ok(defers) => {
            let flags = if defers {
                "SINGLE_ISSUER + DEFER_TASKRUN"
            } else {
                "no DEFER_TASKRUN: the ring wire needs Linux 6.1"
            };
            Ok(IoChosen { backend: Backend::Uring { defers }, why: format!("monoio, {flags}") })
        }
        Err(reason) if io != Io::Auto => Err(format!("io = {io:?}, but io_uring cannot be had: {reason}")),
        Err(reason) => {
            Ok(IoChosen { backend: Backend::Epoll, why: format!("monoio; io_uring cannot be had: {reason}") })
        }
    }
}

/// Sets up a small ring. True when the kernel knows the flags that make it cheap.
fn probe_uring() -> Result<bool, String> {
    let deferring = io_uring::IoUring::<io_uring::squeue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8);
    if deferring.is_ok() {
        return Ok(true);
    }
    match io_uring::IoUring::new(8) {
        Ok(_) => Ok(false),
        Err(error) => Err(explain_refusal(&error)),
    }
}

fn explain_refusal(error: &std::io::Error) -> String {
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let fix = match rustix::io::Errno::from_io_error(error) {
        Some(rustix::io::Errno::PERM) if sysctl.trim() != "0" && !sysctl.is_empty() => {
            "the sysctl kernel.io_uring_disabled forbids it; set it to 0"
        }
        Some(rustix::io::Errno::PERM) => {
            "a seccomp profile forbids it, as Docker's default does; run the container with a profile that allows \
             io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(rustix::io::Errno::NOMEM) => {
            "the memlock limit is too small; raise it (ulimit -l, LimitMEMLOCK=)"
        }
        Some(rustix::io::Errno::NOSYS) => "the kernel is older than 5.1 or built without it",
        _ => "the kernel refused it",
    };
    format!("{error} ({fix})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up_to_whole_cpus() {
        let rows = [
            ("max 100000\n", None),
            ("200000 100000\n", Some(2)),
            ("150000 100000\n", Some(2)),
            ("10000 100000\n", Some(1)),
            ("", None),
            ("1 0", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_quota(text), expected, "{text:?}");
        }
    }

    #[test]
    fn more_shards_than_cores_run_unpinned() {
        let cpus = Cpus { cores: vec![3], quota: None };
        assert_eq!(cpus.core_of(0, 1), Some(3));
        assert_eq!(cpus.core_of(0, 2), None);
        assert_eq!(Cpus { quota: Some(4), ..cpus }.shards_default(), 1);
    }
}
