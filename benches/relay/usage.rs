//! What a process has used of the machine, from the system's own account.

use std::fs;
use std::time::Duration;

use crate::Failed;

/// CPU time of all threads of a process that live.
pub(crate) fn cpu(process: u32) -> Result<Duration, Failed> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let account = thread?.path().join("schedstat");
        // It may have ended just now.
        let Ok(account) = fs::read_to_string(account) else { continue };
        nanos += account.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The most memory that a process has held, in octets.
pub(crate) fn memory_peak(process: u32) -> Result<u64, Failed> {
    status(process, "VmHWM:")
}

/// The memory that a process holds, in octets.
pub(crate) fn memory(process: u32) -> Result<u64, Failed> {
    status(process, "VmRSS:")
}

fn status(process: u32, name: &str) -> Result<u64, Failed> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no account of memory")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes << 10)
}
