//! What waits behind events that fail.

use super::*;

#[test]
fn what_it_never_takes_of_no_call_keeps_no_call_waiting() {
    let manner = |owed: &Owed, _: Now, _: &mut Chance| answer(if owed.subject.is_none() { 500 } else { 200 });
    let mut bench = Bench::new(manner);
    // A quiet weekend: nothing shows that it takes anything.
    for _ in 0..200 {
        bench.happens("line.registered", None);
        bench.run(MINUTE);
    }
    for call in 0..300 {
        let name = format!("call-{call}");
        let first = bench.happens("call.new", Some(&name));
        bench.happens("line.registered", None);
        let last = bench.happens("call.ended", Some(&name));
        bench.run(20 * MINUTE);
        let numbers = bench.numbers();
        assert!([first, last].iter().all(|it| numbers.contains(it)), "call {call} waits");
        if call % 100 == 99 {
            bench.crash();
        }
    }
    let state = bench.upstream.state();
    assert!(state.set_aside > 0 && state.owed.len() <= behind::MANY + PAGE, "{state:?}");
    assert_eq!(
        bench.got.len() + state.owed.len() + state.set_aside as usize,
        1100,
        "nothing is lost silently"
    );
    assert!(bench.words().contains(&"upstream.refused"), "{:?}", bench.words());
    let tries = bench.sent.len() - bench.got.len();
    assert!(tries < 5000, "{tries} attempts in vain");
    bench.manner = Box::new(|_, _, _| answer(200));
    bench.run(20 * MINUTE);
    assert_eq!(bench.upstream.view(bench.now).state, "idle");
    let got: BTreeSet<u64> = bench.numbers().into_iter().collect();
    let aside: BTreeSet<u64> = (1..=1100).filter(|number| !got.contains(number)).collect();
    assert_eq!(aside.len() as u64, state.set_aside);
    bench.check(&aside);
}

#[test]
fn an_outage_puts_nothing_aside_but_what_failed_before_it() {
    let manner = |owed: &Owed, _: Now, _: &mut Chance| answer(if owed.subject.is_none() { 500 } else { 200 });
    let mut bench = Bench::new(manner);
    bench.happens("line.registered", None);
    for call in 0..4 {
        bench.happens("call.new", Some(&format!("call-{call}")));
        bench.run(10 * MINUTE);
    }
    // Nothing is taken any more.
    bench.manner = Box::new(|_, _, _| answer(503));
    for call in 0..600 {
        bench.happens("call.new", Some(&format!("away-{call}")));
        bench.happens("line.failed", None);
        bench.run(MINUTE);
    }
    bench.run(600 * MINUTE);
    assert_eq!(bench.upstream.state().set_aside, 0, "{:?}", bench.words());
    bench.manner = Box::new(|_, _, _| answer(200));
    bench.run(120 * MINUTE);
    assert!(bench.upstream.state().set_aside <= 1, "{:?}", bench.words());
    let aside = (1..=1205).filter(|number| !bench.numbers().contains(number)).collect();
    assert!(aside == BTreeSet::new() || aside == BTreeSet::from([1]), "{aside:?}");
    bench.check(&aside);
}

#[test]
fn calls_at_which_it_always_fails_keep_no_other_waiting() {
    let manner = |owed: &Owed, _: Now, _: &mut Chance| {
        let odd = owed.subject.as_deref().is_some_and(|call| call.ends_with("-odd"));
        answer(if odd { 500 } else { 200 })
    };
    let mut bench = Bench::new(manner);
    for call in 0..200 {
        for name in [format!("{call}-odd"), format!("{call}-even")] {
            for kind in ["call.new", "call.answered", "call.held", "call.resumed", "call.ended"] {
                bench.happens(kind, Some(&name));
            }
        }
        bench.run(30 * MINUTE);
        assert_eq!(bench.got.len(), 5 * (call + 1), "call {call} waits");
    }
    let state = bench.upstream.state();
    assert!(state.owed.len() <= behind::MANY + PAGE, "{state:?}");
    assert_eq!(bench.got.len() + state.owed.len() + state.set_aside as usize, 2000);
    bench.run(MINUTE);
    bench.manner = Box::new(|_, _, _| answer(200));
    bench.crash();
    bench.run(20 * MINUTE);
    assert_eq!(bench.got.len(), 2000 - state.set_aside as usize);
    let got: BTreeSet<u64> = bench.numbers().into_iter().collect();
    bench.check(&(1..=2000).filter(|number| !got.contains(number)).collect());
}
