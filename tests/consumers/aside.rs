//! What is given up: dead letters, what is parked, and what cannot be read.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use esker::backplane::{DEAD_STREAM, Filter, Offset};
use esker::{
    ConsumerState, DeadLetter, Delivery, ErrorKind, Handled, OnUndecodable, PARKED_ENTITIES_MAX, Topic,
};

use crate::world::{NUMBERS, PATIENCE, Script, held, options, until, until_asleep, until_at, worlds};

#[test]
fn a_record_that_failed_as_often_as_it_may_is_a_dead_letter_and_those_behind_it_come() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        topic.append(&1).unwrap();
        let bad = topic.append(&2).unwrap();
        let last = topic.append(&3).unwrap();
        let script = Script::failing([2]);
        let consumer = topic.on_event("ship", options().max_attempts(3), script.handler()).unwrap();
        for attempt in 1..3 {
            until("an attempt", || (consumer.status().stuck == attempt).then_some(()));
            assert!(consumer.dead_letters().unwrap().is_empty(), "it may be tried again");
            world.pass_the_pause_of(&consumer);
        }
        until_at(&consumer, last);
        assert_eq!(script.events(), [1, 2, 2, 2, 3], "{}: exactly three", world.name);
        let status = consumer.status();
        assert_eq!((status.poisoned, status.stuck, status.errors), (1, 0, 3));
        let letters = consumer.dead_letters().unwrap();
        let [DeadLetter { consumer: name, stream, key, offset, payload, attempts, cause, .. }] = &letters[..]
        else {
            panic!("{letters:?}")
        };
        assert_eq!((name.as_str(), stream.as_str(), &**key, *offset), ("ship", "number", &b"a"[..], bad));
        assert_eq!((payload.as_deref(), *attempts, cause.as_str()), (Some(&[2][..]), 3, "2 fails"));
        assert_eq!(letters[0].value::<u64>().unwrap(), Some(2));
        assert_eq!(letters[0].value::<String>().unwrap_err().kind(), ErrorKind::Codec);
        assert!(world.plane.head(Filter::topic(DEAD_STREAM, b"ship")).unwrap() > Offset::BEGINNING);
    }
}

#[test]
fn who_takes_dead_letters_and_fails_is_asked_again_alone_and_nothing_goes_past_it() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        topic.append(&1).unwrap();
        let last = topic.append(&2).unwrap();
        let script = Script::failing([1]);
        let (refuses, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let taken: Arc<Mutex<Vec<DeadLetter>>> = Arc::default();
        let letters = {
            let (refuses, asked, taken) = (Arc::clone(&refuses), Arc::clone(&asked), Arc::clone(&taken));
            move |letter: &DeadLetter| {
                asked.fetch_add(1, Ordering::SeqCst);
                if refuses.load(Ordering::SeqCst) {
                    return Err("the desk is closed".into());
                }
                taken.lock().unwrap().push(letter.clone());
                Ok(())
            }
        };
        let options = options().max_attempts(1).dead_letter(letters);
        let consumer = topic.on_event("ship", options, script.handler()).unwrap();
        for times in 1..5 {
            until("a refusal", || (consumer.status().stuck == 1 + times).then_some(()));
            assert_eq!(asked.load(Ordering::SeqCst), times);
            let told = consumer.status().last_error.unwrap();
            assert!(told.contains("the desk is closed"), "{told}");
            if times == 4 {
                refuses.store(false, Ordering::SeqCst);
            }
            world.pass_the_pause_of(&consumer);
        }
        until_at(&consumer, last);
        assert_eq!(script.events(), [1, 2], "{}: the handler itself was called once", world.name);
        assert_eq!(asked.load(Ordering::SeqCst), 5);
        assert_eq!(taken.lock().unwrap()[0].cause, "1 fails");
        assert!(consumer.dead_letters().unwrap().is_empty());
    }
}

#[test]
fn an_entity_is_parked_in_order_and_comes_again_when_somebody_asks() {
    for world in worlds() {
        let store = world.store();
        let [a, b] = ["a", "b"].map(|key| store.topic(NUMBERS, key).unwrap());
        a.append(&1).unwrap();
        a.append(&2).unwrap();
        b.append(&10).unwrap();
        let script = Script::failing([1]);
        let options = options().max_attempts(1).park();
        let consumer = store.on_event(NUMBERS, "ship", options, script.handler()).unwrap();
        a.append(&3).unwrap();
        let last = b.append(&11).unwrap();
        until_at(&consumer, last);
        assert_eq!(script.events(), [1, 10, 11], "{}", world.name);
        let parked = consumer.parked().unwrap();
        assert_eq!((parked.len(), &*parked[0].key, parked[0].records), (1, &b"a"[..], 3));
        assert_eq!((parked[0].attempts, parked[0].cause.as_str()), (1, "1 fails"));
        let payloads = consumer.parked_records("a").unwrap();
        assert_eq!(
            payloads.iter().map(|letter| letter.payload.clone().unwrap()[0]).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert_eq!((consumer.status().parked, consumer.status().poisoned), (3, 1));
        assert_eq!(store.consumers(NUMBERS).unwrap()[0].parked, 3);

        // Asked for while it still fails, it stays.
        assert!(consumer.retry("a").unwrap());
        until("a second attempt", || (consumer.parked().unwrap()[0].attempts == 2).then_some(()));
        assert_eq!(script.events(), [1, 10, 11, 1]);
        // Behind a restart too; and in order, with what comes meanwhile.
        consumer.close().unwrap();
        let options = crate::world::options().max_attempts(1).park();
        let consumer = store.on_event(NUMBERS, "ship", options, script.handler()).unwrap();
        a.append(&4).unwrap();
        until("four", || (consumer.status().parked == 4).then_some(()));
        script.mend();
        assert!(consumer.retry("a").unwrap());
        until("nothing parked", || (consumer.status().parked == 0).then_some(()));
        assert_eq!(script.events(), [1, 10, 11, 1, 1, 2, 3, 4]);
        let attempts: Vec<u32> = script.calls().iter().map(|call| call.attempt).collect();
        assert_eq!(attempts, [1, 1, 1, 2, 3, 1, 1, 1], "{}: those behind it were never tried", world.name);
        let last = a.append(&5).unwrap();
        until_at(&consumer, last);
        assert_eq!(script.events().last(), Some(&5));
        assert!(!consumer.retry("a").unwrap(), "nothing is parked any more");
    }
}

#[test]
fn who_stops_a_consumer_that_retries_many_entities_waits_for_one_of_them() {
    for world in worlds() {
        let store = world.store();
        let topics = ["a", "b", "c"].map(|key| store.topic(NUMBERS, key).unwrap());
        let script = Script::failing([1, 2, 3]);
        let parks = || options().max_attempts(1).park();
        let consumer = store.on_event(NUMBERS, "ship", parks(), script.handler()).unwrap();
        (1..).zip(&topics).for_each(|(n, topic)| _ = topic.append(&n).unwrap());
        until("three parked", || (consumer.status().parked == 3).then_some(()));
        consumer.close().unwrap();
        let (handler, called, go_on) = held();
        let consumer = store.on_event(NUMBERS, "ship", parks(), handler).unwrap();
        for key in ["a", "b", "c"] {
            assert!(consumer.retry(key).unwrap());
        }
        let first = called.recv_timeout(PATIENCE).unwrap();
        consumer.stop();
        go_on.send(()).unwrap();
        drop(go_on);
        consumer.close().unwrap();
        let others: Vec<u64> = called.try_iter().collect();
        assert!(others.is_empty(), "{}: {others:?} behind {first}", world.name);
        assert_eq!(store.consumers(NUMBERS).unwrap()[0].parked, 2, "the others wait for their turn");
    }
}

#[test]
fn what_is_parked_can_be_given_up() {
    for world in worlds() {
        let store = world.store();
        let a = store.topic(NUMBERS, "a").unwrap();
        let script = Script::failing([1]);
        let options = options().max_attempts(1).park();
        let consumer = a.on_event("ship", options, script.handler()).unwrap();
        a.append(&1).unwrap();
        let last = a.append(&2).unwrap();
        until_at(&consumer, last);
        assert!(consumer.discard("a").unwrap() && !consumer.discard("a").unwrap());
        let last = a.append(&3).unwrap();
        until_at(&consumer, last);
        assert_eq!(script.events(), [1, 3], "{}", world.name);
        // Parked once more, nothing of the first time is there.
        a.append(&1).unwrap();
        let last = a.append(&4).unwrap();
        until_at(&consumer, last);
        let again = consumer.parked_records("a").unwrap();
        assert_eq!(again.iter().map(|letter| letter.payload.clone().unwrap()[0]).collect::<Vec<_>>(), [1, 4]);
    }
}

#[test]
fn what_nobody_can_have_written_is_passed_over_or_parked_or_stood_before_as_it_was_told() {
    // An array of two, cut short.
    const CUT: &[u8] = &[0x92, 1];
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        topic.append(&1).unwrap();
        let bad = world.append_raw(b"a", CUT, 1);
        let last = topic.append(&2).unwrap();
        let [skips, parks, blocks] = [(); 3].map(|()| Script::default());
        let skipping = topic.on_event("skip", options(), skips.handler()).unwrap();
        until_at(&skipping, last);
        assert_eq!((skips.events(), skipping.status().undecodable), (vec![1, 2], 1), "{}", world.name);
        assert_eq!(skipping.status().poisoned, 0);

        let options_of = |on| options().on_undecodable(on).max_attempts(1);
        let parking = topic.on_event("park", options_of(OnUndecodable::Park), parks.handler()).unwrap();
        until_at(&parking, last);
        assert_eq!((parks.events(), parking.status().parked), (vec![1], 2));
        assert_eq!(parking.parked_records("a").unwrap()[0].payload.as_deref(), Some(CUT));

        let blocking = topic.on_event("block", options_of(OnUndecodable::Block), blocks.handler()).unwrap();
        for _ in 0..5 {
            world.pass_the_pause_of(&blocking);
        }
        until_asleep(&blocking);
        assert_eq!(blocking.status().state, ConsumerState::Blocked { offset: bad });
        assert_eq!((blocks.events(), blocking.status().poisoned), (vec![1], 0));
    }
}

#[test]
fn what_a_later_build_wrote_is_never_skipped_and_a_later_build_of_the_same_name_takes_it() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        topic.append(&1).unwrap();
        let newer = world.append_raw(b"a", &[2], 2);
        let last = topic.append(&3).unwrap();
        let (old, new) = (Script::default(), Script::default());
        let consumer = topic.on_event("ship", options().max_attempts(1), old.handler()).unwrap();
        let mut elapsed = Duration::ZERO;
        while elapsed < Duration::from_secs(1) {
            elapsed += world.pass_the_pause_of(&consumer);
            until_asleep(&consumer);
        }
        let status = consumer.status();
        assert!(status.forward_incompatible <= 10, "{}: {status:?}", world.name);
        assert_eq!(status.state, ConsumerState::Blocked { offset: newer });
        assert_eq!((status.poisoned, status.undecodable), (0, 0));
        assert!(status.last_error.unwrap().contains("version 2"));

        let later = world.store();
        let topic = later.topic(Topic::<u64>::new("number").version(2), "a").unwrap();
        let taking = topic.on_event("ship", options(), new.handler()).unwrap();
        until_at(&taking, last);
        assert_eq!(new.events(), [2, 3]);
        // The old one notices, and has nothing left to do.
        world.pass_the_pause_of(&consumer);
        until("the position", || (consumer.status().position == last).then_some(()));
        until_asleep(&consumer);
        assert_eq!((old.events(), consumer.status().state), (vec![1], ConsumerState::Running));
    }
}

#[test]
fn an_event_of_another_type_is_set_aside_or_stood_before_as_it_was_told_and_never_dropped() {
    const TEXT: &[u8] = b"\xa3abc";
    // 0: of which version it is was not said.
    for (schema, world) in
        [1, 0].into_iter().flat_map(|schema| worlds().into_iter().map(move |world| (schema, world)))
    {
        let store = world.store();
        let [a, b] = ["a", "b"].map(|key| store.topic(NUMBERS, key).unwrap());
        a.append(&1).unwrap();
        let text = world.append_raw(b"a", TEXT, schema);
        a.append(&2).unwrap();
        let last = b.append(&3).unwrap();
        let consume = |name, options| {
            let script = Script::default();
            (store.on_event(NUMBERS, name, options, script.handler()).unwrap(), script)
        };
        let letters_of = |consumer: &esker::Consumer| {
            let letters = consumer.dead_letters().unwrap();
            letters.iter().map(|letter| (letter.offset, letter.payload.clone().unwrap())).collect::<Vec<_>>()
        };
        // As it is by default: a dead letter, also of one that tries for ever what its handler refuses.
        let (ships, script) = consume("ship", options());
        until_at(&ships, last);
        assert_eq!(script.events(), [1, 2, 3], "{}", world.name);
        assert_eq!(letters_of(&ships), [(text, TEXT.to_vec())]);
        assert!(ships.dead_letters().unwrap()[0].cause.contains("another type"));
        assert_eq!((ships.status().undecodable, ships.status().poisoned), (1, 0));

        let (told, heard) = channel();
        let takes = options().dead_letter(move |letter: &DeadLetter| Ok(told.send(letter.offset)?));
        let (takes, _) = consume("take", takes);
        until_at(&takes, last);
        assert_eq!((heard.try_iter().collect::<Vec<_>>(), letters_of(&takes)), (vec![text], vec![]));

        // What parks holds up the entity, and nothing else.
        for (name, options) in
            [("park", options().park()), ("parks", options().on_undecodable(OnUndecodable::Park))]
        {
            let (parks, script) = consume(name, options);
            until_at(&parks, last);
            assert_eq!((script.events(), parks.status().parked), (vec![1, 3], 2), "{}", world.name);
            assert_eq!((parks.status().undecodable, parks.status().poisoned), (1, 0));
        }

        let (blocks, script) = consume("block", options().on_undecodable(OnUndecodable::Block));
        until("a block", || (blocks.status().state == ConsumerState::Blocked { offset: text }).then_some(()));
        assert_eq!((script.events(), blocks.status().undecodable), (vec![1], 0));
        assert!(blocks.status().last_error.unwrap().contains("another type"));
    }
}

#[test]
fn an_event_of_another_type_and_an_earlier_version_is_stood_before_unless_it_is_to_be_parked() {
    for world in worlds() {
        let store = world.store();
        let later = NUMBERS.version(2);
        let text = world.append_raw(b"a", b"\xa3abc", 1);
        let of_now = world.append_raw(b"a", b"\xa3def", 2);
        let last = store.topic(later, "b").unwrap().append(&3).unwrap();
        for (name, options) in [("all", options()), ("skip", options().on_undecodable(OnUndecodable::Skip))] {
            let script = Script::default();
            let waits = store.on_event(later, name, options, script.handler()).unwrap();
            until("a block", || {
                (waits.status().state == ConsumerState::Blocked { offset: text }).then_some(())
            });
            assert_eq!((script.events(), waits.dead_letters().unwrap()), (vec![], vec![]), "{}", world.name);
            assert!(waits.status().last_error.unwrap().contains("earlier version"));
        }
        let script = Script::default();
        let parks = options().on_undecodable(OnUndecodable::Park);
        let parks = store.on_event(later, "park", parks, script.handler()).unwrap();
        until_at(&parks, last);
        assert_eq!((script.events(), parks.status().parked), (vec![3], 2));
        assert_eq!(parks.parked_records("a").unwrap()[1].offset, of_now);
    }
}

#[test]
fn a_payload_that_is_too_large_to_be_copied_is_a_dead_letter_without_it() {
    for world in worlds().into_iter().skip(1) {
        let texts: Topic<String> = Topic::new("text");
        let store = world.store();
        let topic = store.topic(texts, "a").unwrap();
        topic.append(&"x".repeat(esker::backplane::PAYLOAD_BYTES_PORTABLE - 5)).unwrap();
        let last = topic.append(&"y".to_owned()).unwrap();
        let options = options().max_attempts(1);
        let consumer =
            topic
                .on_event("ship", options, |delivery: &esker::Delivery<'_, String>| {
                    if delivery.event.len() > 1 { Err("too long".into()) } else { Ok(()) }
                })
                .unwrap();
        until_at(&consumer, last);
        let letters = consumer.dead_letters().unwrap();
        assert_eq!((letters.len(), letters[0].payload.as_ref()), (1, None), "{}", world.name);
    }
}

#[test]
fn the_built_in_streams_are_facts_that_anybody_reads_and_only_the_library_writes() {
    let journal = esker::Options::new().background(false).in_memory().unwrap();
    let store = esker::Store::over(journal);
    let topic = store.topic(NUMBERS, "a").unwrap();
    let script = Script::failing([1]);
    let options = options().max_attempts(1);
    let consumer = topic.on_event("ship", options, script.handler()).unwrap();
    let offset = topic.append(&1).unwrap();
    until_at(&consumer, offset);
    let kind = store.journal().kind_named(DEAD_STREAM).unwrap();
    assert_eq!(kind.codec, esker::Codec::MessagePack, "the tool decodes it");
    assert_eq!(store.journal().view().kind(kind.id).count(), 1);
    let error = store.append(esker::Facts::<u64>::new(DEAD_STREAM), "ship", &1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OwnedByState, "{error}");
}

#[test]
fn dead_letters_are_those_of_this_consumer_and_not_of_others_of_its_name() {
    for world in worlds() {
        let store = world.store();
        let last = (0..8_u64).fold(Offset::BEGINNING, |_, n| {
            store.topic(NUMBERS, n.to_le_bytes()).unwrap().append(&n).unwrap()
        });
        let fails = Script::failing((0..8).collect::<Vec<u64>>());
        let parts: Vec<_> = (0..2)
            .map(|i| {
                store
                    .on_event(NUMBERS, "ship", options().shard(i, 2).max_attempts(1), fails.handler())
                    .unwrap()
            })
            .collect();
        let all = store.on_event(NUMBERS, "ship", options(), Script::default().handler()).unwrap();
        let first = store.topic(NUMBERS, 0_u64.to_le_bytes()).unwrap();
        let one = first.on_event("ship", options().max_attempts(1), fails.handler()).unwrap();
        until_at(&all, last);
        until_at(&one, first.head().unwrap());
        for part in &parts {
            until("the end", || (part.status().position >= last).then_some(()));
            let letters = part.dead_letters().unwrap();
            assert_eq!(letters.len() as u64, part.status().poisoned, "{}", world.name);
            assert!(letters.iter().all(|letter| letter.is_of_all_topics && letter.shard.is_some()));
        }
        assert_eq!(parts.iter().map(|part| part.status().poisoned).sum::<u64>(), 8);
        assert_eq!((one.dead_letters().unwrap().len(), all.dead_letters().unwrap()), (1, vec![]));
    }
}

#[test]
fn what_fails_when_it_is_retried_is_counted_and_told() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let last = topic.append(&1).unwrap();
        let script = Script::failing([1]);
        let consumer = topic.on_event("ship", options().max_attempts(1).park(), script.handler()).unwrap();
        until_at(&consumer, last);
        assert_eq!(consumer.status().errors, 1);
        consumer.retry("a").unwrap();
        until("the retry", || (consumer.parked().unwrap()[0].attempts == 2).then_some(()));
        let status = consumer.status();
        assert_eq!((status.errors, status.last_error.as_deref()), (2, Some("1 fails")), "{}", world.name);
    }
}

#[test]
fn what_is_given_up_while_it_is_retried_comes_no_more() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let fails = Arc::new(AtomicBool::new(true));
        let ((tell, called), (go_on, wait)) = (channel(), channel::<()>());
        let handler = {
            let fails = Arc::clone(&fails);
            move |delivery: &Delivery<'_, u64>| -> Handled {
                if fails.load(Ordering::SeqCst) {
                    return Err("no".into());
                }
                tell.send(delivery.event)?;
                wait.recv()?;
                Ok(())
            }
        };
        let consumer = topic.on_event("ship", options().max_attempts(1).park(), handler).unwrap();
        (1..=5).for_each(|n| _ = topic.append(&n).unwrap());
        until("five", || (consumer.status().parked == 5).then_some(()));
        fails.store(false, Ordering::SeqCst);
        assert!(consumer.retry("a").unwrap());
        assert_eq!(called.recv().unwrap(), 1);
        assert!(consumer.discard("a").unwrap());
        let last = topic.append(&6).unwrap();
        (0..6).for_each(|_| go_on.send(()).unwrap());
        until_at(&consumer, last);
        assert_eq!(called.try_iter().collect::<Vec<_>>(), [6], "{}", world.name);
    }
}

#[test]
fn so_many_entities_can_be_parked_as_is_said_with_whatever_keys_and_causes() {
    for world in worlds().into_iter().skip(1) {
        let store = world.store();
        let most = PARKED_ENTITIES_MAX as u64;
        let append = |n: u64| store.topic(NUMBERS, format!("{n:0>255}")).unwrap().append(&n).unwrap();
        let last = (1..=most).fold(Offset::BEGINNING, |_, n| append(n));
        let options = options().max_attempts(1).park();
        let failing = |_: &Delivery<'_, u64>| -> Handled { Err("\u{1f980}".repeat(400).into()) };
        let consumer = store.on_event(NUMBERS, "ship", options, failing).unwrap();
        until("all of them", || {
            assert!(!consumer.status().has_ended(), "{}: {:?}", world.name, consumer.status());
            (consumer.status().committed >= last).then_some(())
        });
        assert_eq!(consumer.status().parked, most);
        let cause = &consumer.parked_records(format!("{most:0>255}")).unwrap()[0].cause;
        assert_eq!(cause.chars().count(), 400, "the copy tells all that is kept of it");
        append(most + 1);
        until("a wait", || matches!(consumer.status().state, ConsumerState::Waiting { .. }).then_some(()));
        assert!(consumer.status().last_error.unwrap().contains("at most 256 entities"));
    }
}

#[test]
fn a_payload_that_is_too_large_to_be_copied_is_parked_without_it_and_comes_again_from_its_topic() {
    for world in worlds().into_iter().skip(1) {
        let texts: Topic<String> = Topic::new("text");
        let store = world.store();
        let large = store.topic(texts, "large").unwrap();
        large.append(&"x".repeat(esker::backplane::PAYLOAD_BYTES_PORTABLE - 5)).unwrap();
        let last = store.topic(texts, "small").unwrap().append(&"y".to_owned()).unwrap();
        let (fails, (tell, told)) = (Arc::new(AtomicBool::new(true)), channel());
        let failing = Arc::clone(&fails);
        let handler = move |delivery: &Delivery<'_, String>| -> Handled {
            if delivery.event.len() > 1 && failing.load(Ordering::SeqCst) {
                return Err("too long".into());
            }
            tell.send(delivery.event.len())?;
            Ok(())
        };
        let consumer = store.on_event(texts, "ship", options().max_attempts(1).park(), handler).unwrap();
        until_at(&consumer, last);
        assert_eq!(told.recv().unwrap(), 1, "{}: those of others come", world.name);
        assert_eq!(consumer.parked_records("large").unwrap()[0].payload, None);
        fails.store(false, Ordering::SeqCst);
        assert!(consumer.retry("large").unwrap());
        assert_eq!(told.recv().unwrap(), esker::backplane::PAYLOAD_BYTES_PORTABLE - 5);
        until("nothing parked", || (consumer.status().parked == 0).then_some(()));

        // One that was dropped meanwhile stays, and says so.
        fails.store(true, Ordering::SeqCst);
        large.append(&"x".repeat(esker::backplane::PAYLOAD_BYTES_PORTABLE - 5)).unwrap();
        let last = large.append(&"z".to_owned()).unwrap();
        until_at(&consumer, last);
        assert_eq!(large.compact(last).unwrap(), last);
        assert!(consumer.retry("large").unwrap());
        until("an attempt", || (consumer.parked().unwrap()[0].attempts == 2).then_some(()));
        assert!(consumer.parked().unwrap()[0].cause.contains("not found in its topic"));
    }
}

#[test]
fn more_than_are_read_at_a_time_are_retried_in_order_also_behind_a_failure_in_between() {
    for world in worlds() {
        let store = world.store();
        let topic = store.topic(NUMBERS, "a").unwrap();
        let script = Script::failing([1]);
        let consumer = topic.on_event("ship", options().max_attempts(1).park(), script.handler()).unwrap();
        let last = (1..=150).fold(Offset::BEGINNING, |_, n| topic.append(&n).unwrap());
        until_at(&consumer, last);
        script.mend();
        script.fail([100]);
        assert!(consumer.retry("a").unwrap());
        until("the hundredth", || (consumer.status().last_error? == "100 fails").then_some(()));
        until("those before it", || (consumer.status().parked == 51).then_some(()));
        script.mend();
        assert!(consumer.retry("a").unwrap());
        until("nothing parked", || (consumer.status().parked == 0).then_some(()));
        assert!(
            script.events().into_iter().eq([1].into_iter().chain(1..=100).chain(100..=150)),
            "{}",
            world.name
        );
    }
}
