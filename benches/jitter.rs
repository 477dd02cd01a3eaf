//! The jitter buffer against fixed ones: trace × mean delay, concealment and segmental SNR. In virtual time and from a
//! seed, so the table is the same on every machine.

#[path = "jitter/playout.rs"]
mod playout;
#[path = "jitter/traces.rs"]
mod traces;

use playout::{Outcome, Piece};
use traces::Trace;

fn main() {
    println!("mean delay beyond the path in ms / concealed in % / segmental SNR in dB\n");
    println!(
        "{:<34} {:>21} {:>21} {:>21} {:>21}",
        "trace", "tipring", "fixed 60 ms", "fixed 100 ms", "oracle (afterwards)"
    );
    let (mut beaten, mut stretched, mut seconds) = (0, 0.0, 0.0);
    for trace in traces::all(1, 120) {
        let ours = playout::adaptive(&trace);
        let fixed = [60_000, 100_000].map(|us| playout::fixed(&trace, us));
        print!("{:<34} {}", trace.name, cell(&trace, &ours));
        for other in fixed.iter().chain([&playout::oracle(&trace)]) {
            print!(" {}", cell(&trace, other));
        }
        let beats = |other: &Outcome| {
            other.delay_ms < ours.0.delay_ms && other.concealed_percent < ours.0.concealed_percent
        };
        let lost = fixed.iter().any(|(outcome, _)| beats(outcome));
        beaten += u32::from(lost);
        stretched += ours.0.shortened_ms + ours.0.lengthened_ms;
        seconds += 120.0;
        println!("{}", if lost { "  beaten" } else { "" });
    }
    println!("\ntime stretching, all traces: {:.1} ms per second", stretched / seconds);
    println!("traces on which a fixed buffer has both less delay and less concealment: {beaten}");
}

fn cell(trace: &Trace, (outcome, pieces): &(Outcome, Vec<Piece>)) -> String {
    let snr = playout::segmental_snr(trace, pieces);
    format!("{:>6.1} / {:>5.2} / {:>4.1}", outcome.delay_ms, outcome.concealed_percent, snr)
}
