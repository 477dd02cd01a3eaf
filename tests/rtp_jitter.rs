//! The jitter buffer against fixed ones, in virtual time and from seeds; `cargo bench --bench jitter` prints the table.

#[path = "../benches/jitter/playout.rs"]
mod playout;
#[path = "../benches/jitter/traces.rs"]
mod traces;

use playout::Piece;

#[test]
fn no_fixed_buffer_has_both_less_delay_and_less_concealment() {
    for trace in traces::all(1, 120) {
        let ours = playout::adaptive(&trace).0;
        for fixed_ms in [60, 100] {
            let fixed = playout::fixed(&trace, fixed_ms * 1_000).0;
            assert!(
                fixed.delay_ms >= ours.delay_ms || fixed.concealed_percent >= ours.concealed_percent,
                "{}: fixed {fixed_ms} ms {fixed:?} beats {ours:?}",
                trace.name
            );
        }
    }
}

#[test]
fn the_adaptive_buffer_comes_near_the_best_delay_known_afterwards() {
    // Delay in ms, with 50 ms for every per cent concealed: what the oracle minimizes, knowing the future.
    let cost = |outcome: playout::Outcome| outcome.delay_ms + 50.0 * outcome.concealed_percent;
    let (mut ours, mut oracle, mut fixed) = (0.0, 0.0, [0.0; 2]);
    for seed in 1..=3 {
        for trace in traces::all(seed, 60) {
            ours += cost(playout::adaptive(&trace).0);
            oracle += cost(playout::oracle(&trace).0);
            fixed[0] += cost(playout::fixed(&trace, 60_000).0);
            fixed[1] += cost(playout::fixed(&trace, 100_000).0);
        }
    }
    assert!(ours < 1.25 * oracle, "{ours} against {oracle}");
    assert!(ours < 0.9 * fixed[0] && ours < 0.9 * fixed[1], "{ours} against {fixed:?}");
}

#[test]
fn drift_and_bursts_never_turn_into_growing_delay() {
    for trace in traces::all(2, 600).iter().filter(|trace| trace.name.starts_with("drift")) {
        let outcome = playout::adaptive(trace).0;
        assert!(outcome.delay_ms < 40.0, "{}: {outcome:?}", trace.name);
        assert!(outcome.concealed_percent < 0.05, "{}: {outcome:?}", trace.name);
        // Ten minutes at 500 ppm are 300 ms: they must have gone into stretching or shortening.
        let stretched = outcome.shortened_ms - outcome.lengthened_ms;
        assert!((200.0..400.0).contains(&stretched.abs()), "{}: {outcome:?}", trace.name);
    }
}

#[test]
fn what_is_not_concealed_is_heard_as_it_was_spoken() {
    let traces = traces::all(1, 30);
    let snr = |name: &str| {
        let trace = traces.iter().find(|trace| trace.name == name).unwrap();
        playout::segmental_snr(trace, &playout::adaptive(trace).1)
    };
    let (clean, bursts) = (snr("clean"), snr("same with 7 % loss in bursts"));
    assert!(clean > 30.0, "{clean} dB");
    assert!(bursts < clean - 1.0 && bursts > 25.0, "{bursts} dB");
}

#[test]
fn nothing_is_concealed_or_delayed_on_a_clean_path() {
    let clean = traces::all(1, 60).into_iter().find(|trace| trace.name == "clean").unwrap();
    let (outcome, pieces) = playout::adaptive(&clean);
    assert_eq!(outcome.concealed_percent, 0.0);
    assert!(outcome.delay_ms < 20.0, "{outcome:?}");
    let last = pieces.iter().rposition(|piece| matches!(piece, Piece::Media { .. })).unwrap();
    assert!(!pieces[..last].iter().any(|piece| matches!(piece, Piece::Concealed(us) if *us > 0)));
}
