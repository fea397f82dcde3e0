//! What a process holds of the machine.

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Octets in memory now, and at most so far.
    pub(crate) resident: u64,
    pub(crate) peak: u64,
    pub(crate) descriptors: usize,
}

impl Held {
    /// What this process holds now.
    pub(crate) fn by(process: u32) -> Self {
        let of = format!("/proc/{process}");
        let status = std::fs::read_to_string(format!("{of}/status")).unwrap();
        let kilobytes = |key: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("{of}/fd")).unwrap().count();
        Self { resident: 1024 * kilobytes("VmRSS:"), peak: 1024 * kilobytes("VmHWM:"), descriptors }
    }
}
