//! What the kernel counts of this process and its shards' threads. It is read when somebody asks, so that it costs shards nothing.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// Descriptors that are counted one by one, on kernels that do not tell how many there are: clients of the shard wait meanwhile.
const DESCRIPTORS_COUNTED_MAX: usize = 16 * 1024;

/// Of the process. What the kernel does not tell is 0.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct ProcessUsage {
    pub(super) cpu_nanos: u64,
    pub(super) resident_bytes: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: u64,
}

/// Of one thread.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct ThreadUsage {
    pub(super) cpu_nanos: u64,
    pub(super) wait_nanos: u64,
}

impl ProcessUsage {
    pub(super) fn now() -> ProcessUsage {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        ProcessUsage {
            cpu_nanos: cpu_ticks(&stat).unwrap_or(0).saturating_mul(1_000_000_000 / ticks_per_second),
            resident_bytes: pages.saturating_mul(rustix::param::page_size() as u64),
            open_fds: open_descriptors(),
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

impl ThreadUsage {
    /// Those of a thread of this process, by the kernel's number.
    pub(super) fn of(thread: u64) -> ThreadUsage {
        let path = format!("/proc/self/task/{thread}/schedstat");
        fs::read_to_string(path).ok().and_then(|text| read_schedstat(&text)).unwrap_or_default()
    }
}

/// `schedstat`: nanoseconds on a core, nanoseconds ready without one, and how often it ran.
fn read_schedstat(text: &str) -> Option<ThreadUsage> {
    let mut words = text.split_ascii_whitespace().map(str::parse);
    let (cpu_nanos, wait_nanos) = (words.next()?.ok()?, words.next()?.ok()?);
    Some(ThreadUsage { cpu_nanos, wait_nanos })
}

/// Ticks in user space and in the kernel. The program's name stands before them, and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut words = behind_name.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    Some(words.next()?.ok()? + words.next()?.ok()?)
}

/// The kernel tells the number as the folder's length since Linux 6.2; before, the folder is read.
fn open_descriptors() -> u64 {
    match fs::metadata("/proc/self/fd").map(|folder| folder.len()) {
        Ok(0) => {
            let entries = fs::read_dir("/proc/self/fd");
            entries.map_or(0, |entries| entries.take(DESCRIPTORS_COUNTED_MAX).count() as u64)
        }
        Ok(count) => count,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let stat =
            "17 (a ) b) S 1 17 17 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 99 1000 5 18446744073709551615";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("17 (a) S 1 2"), None);
        let thread = read_schedstat("123456789 42 7\n").expect("two numbers");
        assert_eq!((thread.cpu_nanos, thread.wait_nanos), (123_456_789, 42));
        assert!(read_schedstat("").is_none() && read_schedstat("x 1").is_none());
    }

    #[test]
    fn this_process_uses_something() {
        let usage = ProcessUsage::now();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!((3..=usage.max_fds).contains(&usage.open_fds), "{usage:?}");
        let thread = ThreadUsage::of(rustix::thread::gettid().as_raw_nonzero().get() as u64);
        assert!(thread.cpu_nanos > 0, "{thread:?}");
        assert_eq!(ThreadUsage::of(0).cpu_nanos, 0);
    }
}
