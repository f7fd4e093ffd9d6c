//! The wheel by itself and against an ordered map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn ms(ms: u64) -> Time {
    Time(ms * 1000)
}

/// Takes turns at `next_deadline` only; returns what fired when, and the number of turns.
fn run(wheel: &mut Wheel) -> (Vec<(Time, Alarm)>, usize) {
    let (mut fired, mut turns) = (Vec::new(), 0);
    while let Some(at) = wheel.next_deadline() {
        turns += 1;
        while let Some(alarm) = wheel.pop(at) {
            fired.push((at, alarm));
        }
        let falls = wheel.heads[FALLING as usize] != NONE;
        assert!(wheel.next_deadline().is_none_or(|next| next > at || falls));
    }
    (fired, turns)
}

#[test]
fn fires_in_order_at_the_tick_and_wakes_a_few_times_only() {
    let mut wheel = Wheel::new(ms(5));
    for at in [30_005, 6, 70, 5_000, 4_101, 4_100, 300_000, 86_400_000] {
        wheel.arm(ms(at), Alarm::Shard(at as u32));
    }
    let (fired, turns) = run(&mut wheel);
    let times: Vec<u64> = fired.iter().map(|(at, _)| at.0 / 1000).collect();
    assert_eq!(times, [6, 70, 4_100, 4_101, 5_000, 30_005, 300_000, 86_400_000]);
    assert!(fired.iter().all(|(at, alarm)| *alarm == Alarm::Shard((at.0 / 1000) as u32)));
    assert!(turns <= 8 * 4, "{turns} turns");
}

#[test]
fn a_deadline_within_a_tick_is_rounded_up_and_one_in_the_past_is_due_at_once() {
    let mut wheel = Wheel::new(Time(1_500));
    wheel.arm(Time(1_501), Alarm::Shard(1));
    wheel.arm(Time(1_500), Alarm::Shard(2));
    wheel.arm(Time(0), Alarm::Shard(3));
    assert_eq!(wheel.next_deadline(), Some(Time(1_500)));
    assert_eq!(wheel.pop(Time(1_500)), Some(Alarm::Shard(2)));
    assert_eq!(wheel.pop(Time(1_500)), Some(Alarm::Shard(3)));
    assert_eq!(wheel.pop(Time(1_999)), None);
    assert_eq!(wheel.pop(Time(2_000)), Some(Alarm::Shard(1)));
    assert!(wheel.is_empty());
}

#[test]
fn a_stale_id_cancels_nothing() {
    let mut wheel = Wheel::default();
    let first = wheel.arm(ms(1), Alarm::Shard(1));
    assert_eq!(wheel.pop(ms(1)), Some(Alarm::Shard(1)));
    let second = wheel.arm(ms(2), Alarm::Shard(2));
    assert_eq!(first.index, second.index);
    wheel.cancel(first);
    assert_eq!(wheel.len(), 1);
    wheel.cancel(second);
    wheel.cancel(second);
    assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
}

#[test]
fn the_farthest_deadline_fits_and_a_clock_that_jumps_fires_everything_once() {
    let mut wheel = Wheel::new(ms(77));
    wheel.arm(Time(u64::MAX), Alarm::Shard(0));
    let soon: Vec<u64> = (0..40).map(|power| 1 << power).collect();
    for at in &soon {
        wheel.arm(Time(*at), Alarm::Shard(1));
    }
    let fired = std::iter::from_fn(|| wheel.pop(Time(1 << 57))).count();
    assert_eq!((fired, wheel.len()), (soon.len(), 1));
    assert!(wheel.next_deadline() > Some(Time(1 << 57)));
}

#[test]
fn a_turn_moves_a_bounded_number_of_timers_and_loses_none() {
    const TIMERS: usize = 3 * MOVES_PER_TURN;
    let mut wheel = Wheel::new(ms(0));
    // All in one list of the third level, due together behind its start.
    let ids: Vec<TimerId> =
        (0..TIMERS).map(|number| wheel.arm(ms(4096 + 100), Alarm::Shard(number as u32))).collect();
    // Moved, first in line, amid the rest or last of it: whichever list they are in.
    let cancelled = [[0, MOVES_PER_TURN, TIMERS - 9], [9, 2 * MOVES_PER_TURN + 1, TIMERS - 1], [10, 11, 12]];
    for (turn, cancelled) in cancelled.iter().enumerate() {
        assert_eq!(wheel.next_deadline(), Some(ms(4096)), "turn {turn}");
        assert_eq!(wheel.pop(ms(4096)), None);
        assert_eq!(wheel.heads[FALLING as usize] == NONE, turn == 2, "turn {turn}");
        if turn < 2 {
            assert_eq!(wheel.heads[FALLING as usize], ids[cancelled[1]].index, "turn {turn}");
        }
        cancelled.iter().for_each(|number| wheel.cancel(ids[*number]));
        wheel.arm(ms(4096 + 100), Alarm::Shard(u32::MAX));
    }
    assert_eq!(wheel.len(), TIMERS - 3 * 3 + 3);
    assert!(!wheel.is_empty());
    let (fired, turns) = run(&mut wheel);
    let expected =
        (0..TIMERS).filter(|number| !cancelled.as_flattened().contains(number)).map(|number| number as u32);
    let mut alarms: Vec<u32> = Vec::new();
    for (at, alarm) in fired {
        assert_eq!(at, ms(4096 + 100));
        let Alarm::Shard(number) = alarm else { panic!("{alarm:?}") };
        alarms.push(number);
    }
    alarms.retain(|number| *number != u32::MAX);
    assert!(alarms.iter().copied().eq(expected), "in the order in which they were armed");
    assert!(turns <= 8, "{turns}");
}

#[derive(Clone, Debug)]
enum Deed {
    Arm(i64),
    Cancel(usize),
    Turn(u64),
    TurnAtDeadline,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let far = (0u32..36).prop_flat_map(|bits| 0..=(1i64 << bits));
    let deed = prop_oneof![
        5 => prop_oneof![far.clone(), -5_000..5_000i64].prop_map(Deed::Arm),
        2 => any::<usize>().prop_map(Deed::Cancel),
        2 => far.prop_map(|span| Deed::Turn(span as u64 / 8)),
        2 => Just(Deed::TurnAtDeadline),
    ];
    proptest::collection::vec(deed, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_an_ordered_map(start in 0u64..1 << 40, deeds in deeds()) {
        let mut now = Time(start);
        let mut wheel = Wheel::new(now);
        // Fires at (tick, number); armed timers' ids beside.
        let mut oracle: BTreeMap<(u64, u32), TimerId> = BTreeMap::new();
        let mut ids: Vec<TimerId> = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Arm(span) => {
                    let at = Time(now.0.saturating_add_signed(span));
                    let number = ids.len() as u32;
                    let id = wheel.arm(at, Alarm::Shard(number));
                    let tick = if at <= now { 0 } else { at.0.div_ceil(1000) };
                    oracle.insert((tick, number), id);
                    ids.push(id);
                }
                Deed::Cancel(pick) if !ids.is_empty() => {
                    let id = ids[pick % ids.len()];
                    wheel.cancel(id);
                    oracle.retain(|_, armed| *armed != id);
                }
                Deed::Cancel(_) => {}
                Deed::Turn(_) | Deed::TurnAtDeadline => {
                    now = match deed {
                        Deed::Turn(span) => Time(now.0 + span),
                        _ => wheel.next_deadline().unwrap_or(now),
                    };
                    let mut fired = 0;
                    let mut last_tick = 0;
                    while let Some(Alarm::Shard(number)) = wheel.pop(now) {
                        let due = oracle.iter().find(|((_, armed), _)| *armed == number);
                        let key = *due.expect("fired once, and only if armed").0;
                        prop_assert!(key.0 <= now.0 / 1000, "fired early");
                        prop_assert!(key.0 >= last_tick, "fired out of order");
                        last_tick = key.0;
                        oracle.remove(&key);
                        fired += 1;
                        if number % 3 == 0 {
                            // Armed while others are firing, as a repeating timer is.
                            let at = Time(now.0 + 1 + u64::from(number) * 977 % 100_000);
                            let again = ids.len() as u32;
                            let id = wheel.arm(at, Alarm::Shard(again));
                            oracle.insert((at.0.div_ceil(1000), again), id);
                            ids.push(id);
                        }
                    }
                    let late = oracle.keys().next().is_some_and(|(tick, _)| *tick <= now.0 / 1000);
                    prop_assert!(!late, "missed a timer after firing {fired}");
                }
            }
            prop_assert_eq!(wheel.len(), oracle.len());
            let first = oracle.keys().next().map(|(tick, _)| Time((tick * 1000).max(now.0)));
            prop_assert_eq!(wheel.next_deadline().is_some(), first.is_some());
            prop_assert!(wheel.next_deadline() <= first);
        }
    }
}

#[test]
fn a_million_timers_are_armed_cancelled_and_fired() {
    let mut wheel = Wheel::default();
    let ids: Vec<TimerId> =
        (0..1_000_000u32).map(|n| wheel.arm(ms(u64::from(n % 30_011) + 1), Alarm::Shard(n))).collect();
    ids.iter().step_by(2).for_each(|id| wheel.cancel(*id));
    let (fired, turns) = run(&mut wheel);
    assert_eq!(fired.len(), 500_000);
    assert!(turns <= 30_011 + 30_011 / 64 * 2, "{turns} turns");
    assert_eq!(wheel.entries.len(), 1_000_000);
}
