//! CPU time and memory of the server's process, as /proc has them (proc(5)).
//!
//! Sums the process and its descendants, so that a cluster of workers counts as one server. The kernel's
//! clock tick, 10 ms, is the resolution. Virtual machines may charge long system calls to whoever else runs:
//! see the note in the report's documentation before comparing two servers by it.

use std::fs;
use std::time::Duration;

/// A server that can be looked at.
pub(super) struct Process {
    pid: u32,
    ticks_per_second: f64,
    page_bytes: u64,
}

/// What one look found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time since the process began, all threads.
    pub(super) cpu: Duration,
    /// Resident memory.
    pub(super) rss_bytes: u64,
    /// Processes summed.
    pub(super) processes: u32,
}

/// Descendants looked at: more workers than any machine has cores.
const PROCESSES_MAX: usize = 1024;

impl Process {
    /// The process of this id.
    pub(super) fn new(pid: u32) -> Self {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        Self { pid, ticks_per_second, page_bytes: rustix::param::page_size() as u64 }
    }

    /// Looks; `None` when the process is gone.
    pub(super) fn look(&self) -> Option<Usage> {
        let mut usage = Usage::default();
        let mut pids = vec![self.pid];
        let mut at = 0;
        while let Some(&pid) = pids.get(at).filter(|_| at < PROCESSES_MAX) {
            at += 1;
            let Some((ticks, pages)) =
                fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parse)
            else {
                continue;
            };
            usage.cpu += Duration::from_secs_f64(ticks as f64 / self.ticks_per_second);
            usage.rss_bytes += pages * self.page_bytes;
            usage.processes += 1;
            pids.extend(children(pid));
        }
        (usage.processes > 0).then_some(usage)
    }
}

/// The CPU time of this whole process.
pub(super) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The name of the kernel's release, for the report.
pub(super) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// utime + stime in ticks (fields 14 and 15) and the resident pages (24). The name in field 2 may hold spaces
/// and parentheses, so counting starts behind the last one.
fn parse(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let field = |number: usize| rest.split(' ').nth(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(24)?))
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_the_name() {
        let line = "42 (a b) c) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 11 0 100 5000 77 184 1 1";
        assert_eq!(parse(line), Some((200, 77)));
        assert_eq!(parse("42 (a"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let usage = Process::new(std::process::id()).look().unwrap();
        assert!(usage.rss_bytes > 0 && usage.processes >= 1);
    }
}
