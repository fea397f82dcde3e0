//! The process, as Linux tells of it (proc(5)), under the names that every exporter uses.

use std::fs;
use std::time::{Duration, SystemTime};

use prometheus::{Counter, CounterVec, IntGauge};

use super::Maker;
use super::handshakes::seconds;

/// Clock ticks in a second, as Linux has told programs ever since (`USER_HZ`).
const TICKS: f64 = 100.0;

/// See the module.
#[derive(Debug)]
pub(super) struct Process {
    cpu: CounterVec,
    resident: IntGauge,
    virtual_memory: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    started: IntGauge,
}

impl Process {
    pub(super) fn new(make: &Maker) -> Option<Self> {
        let process = Self {
            cpu: make.sums("process_cpu_seconds_total")?,
            resident: make.gauge("process_resident_memory_bytes")?,
            virtual_memory: make.gauge("process_virtual_memory_bytes")?,
            open_fds: make.gauge("process_open_fds")?,
            max_fds: make.gauge("process_max_fds")?,
            threads: make.gauge("process_threads")?,
            started: make.gauge("process_start_time_seconds")?,
        };
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let up = uptime.split(' ').next().and_then(|text| text.parse::<f64>().ok());
        if let (Some(up), Some(after_boot)) = (up, field(&stat, STARTED)) {
            let age = Duration::try_from_secs_f64(up - after_boot / TICKS).unwrap_or_default();
            process.started.set(seconds(SystemTime::now() - age));
        }
        process.refresh();
        Some(process)
    }

    fn cpu(&self) -> Counter {
        self.cpu.with_label_values::<&str>(&[])
    }

    /// Bring them up to date. What can't be read stays as it was.
    pub(super) fn refresh(&self) {
        if let Ok(stat) = fs::read_to_string("/proc/self/stat")
            && let (Some(user), Some(system)) = (field(&stat, USER), field(&stat, SYSTEM))
        {
            let cpu = self.cpu();
            cpu.inc_by(((user + system) / TICKS - cpu.get()).max(0.0));
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            for (name, gauge, unit) in [
                ("VmRSS:", &self.resident, 1024),
                ("VmSize:", &self.virtual_memory, 1024),
                ("Threads:", &self.threads, 1),
            ] {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                let value = line.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok());
                if let Some(value) = value {
                    gauge.set(value * unit);
                }
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the one by which they are read.
            self.open_fds.set(i64::try_from(open.count()).unwrap_or(i64::MAX) - 1);
        }
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        if let Some(max) = limit.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) {
            self.max_fds.set(max);
        }
    }
}

/// Fields of /proc/self/stat, counted from the one behind the name of the program, which may hold anything.
const USER: usize = 11;
const SYSTEM: usize = 12;
const STARTED: usize = 19;

fn field(stat: &str, at: usize) -> Option<f64> {
    stat.rsplit(") ").next()?.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_behind_any_name_are_found() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 1234 0 0";
        assert_eq!(
            [field(stat, USER), field(stat, SYSTEM), field(stat, STARTED)],
            [Some(250.0), Some(50.0), Some(1234.0)]
        );
        assert_eq!(field("", USER), None);
    }
}
