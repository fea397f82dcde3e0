//! Which congestion controller, and which floor under its window: the demo's traffic over the demo's impaired path, for
//! each of them. `cargo bench --bench congestion`; the table it prints stands in benches/README.md.

use fedmux::demo::{Options, Side, measure};
use fedmux::proto::limits::{Congestion, Limits};

/// Paths: loss in percent, round trip in milliseconds.
const PATHS: [(f64, u64); 3] = [(1.0, 100), (3.0, 100), (1.0, 200)];

fn controllers() -> Vec<(&'static str, Limits)> {
    let with =
        |congestion, congestion_window_min| Limits { congestion, congestion_window_min, ..Limits::default() };
    vec![
        ("Cubic as it is", with(Congestion::Cubic, 0)),
        ("Cubic, floor 16 kB", with(Congestion::Cubic, 16_384)),
        ("Cubic, floor 64 kB", with(Congestion::Cubic, 65_536)),
        ("Cubic, floor 256 kB", with(Congestion::Cubic, 262_144)),
        ("BBR", with(Congestion::Bbr, 0)),
    ]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!(
        "| loss, RTT | controller | one stream for all: late, p99 | a stream for each pair: late, p99 | floor |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for (loss, rtt) in PATHS {
        for (name, limits) in controllers() {
            let options =
                Options { loss_percent: Some(loss), rtt_ms: Some(rtt), limits, ..Options::default() };
            let report = runtime.block_on(measure(options))?;
            let Some(comparison) = report.comparison else { return Err("an impaired run compares".into()) };
            let cell = |side: &Side| format!("{:.1}%, {:.0} ms", side.late_percent, side.p99_ms);
            let (one, each) = (&comparison.one_stream, &comparison.stream_per_pair);
            println!(
                "| {loss}%, {rtt} ms | {name} | {} | {} | {:.1}% |",
                cell(one),
                cell(each),
                each.floor_percent
            );
        }
    }
    Ok(())
}
