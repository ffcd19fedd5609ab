//! A journal over three lives, and every crash in one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]
use esker::*;
#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.esker");
    for round in 0..3u64 {
        let j = Options::new().segment_bytes(16384).open(&path).unwrap();
        println!("{:?}", j.recovery());
        let k = j.kind("note").unwrap();
        for i in 0..500u64 {
            let r = j
                .append_nowait(Record::new(
                    k,
                    format!("k{}", i % 7).as_bytes(),
                    &[u8::try_from(i % 251).unwrap(); 100],
                ))
                .unwrap();
            assert_eq!(r.seq().get(), round * 500 + i + 1);
        }
        j.sync().unwrap();
        let v = j.view();
        assert_eq!(
            v.range(..).map(|e| e.unwrap().seq().get()).collect::<Vec<_>>(),
            (1..=(round + 1) * 500).collect::<Vec<_>>()
        );
        assert_eq!(
            v.range(..).rev().map(|e| e.unwrap().seq().get()).collect::<Vec<_>>(),
            (1..=(round + 1) * 500).rev().collect::<Vec<_>>()
        );
        let h: Vec<_> = v.entity(k, b"k3").map(|e| e.unwrap().generation().get()).collect();
        assert_eq!(h, (1..=h.len() as u64).collect::<Vec<_>>());
        assert!(h.len() as u64 > (round + 1) * 70);
        println!("{:?}", j.stats());
        j.close().unwrap();
        for e in std::fs::read_dir(&path).unwrap() {
            let e = e.unwrap();
            print!("{:?}:{} ", e.file_name(), e.metadata().unwrap().len());
        }
    }
}
#[test]
fn crash() {
    let sim = Simulator::new();
    let j = Options::new().segment_bytes(4096).background(false).open_in(&sim).unwrap();
    let k = j.kind("note").unwrap();
    for i in 0..50u64 {
        j.append(Record::new(k, format!("k{}", i % 7).as_bytes(), &[u8::try_from(i % 251).unwrap(); 100]))
            .unwrap();
    }
    for at in 0..=sim.events() {
        for newest in [0, 1] {
            let after = sim.crash(at, &mut |n| (n - 1) * newest);
            let j2 = Options::new().segment_bytes(4096).background(false).open_in(&after);
            let j2 = j2.unwrap_or_else(|e| panic!("{at} {newest} {e}"));
            let n = j2.stats().entries;
            let k = j2.kind("note").unwrap();
            j2.append(Record::new(k, b"x", b"y")).unwrap();
            assert_eq!(j2.view().range(..).filter(Result::is_ok).count() as u64, n + 1);
            j2.close().unwrap();
            let j3 = Options::new()
                .segment_bytes(4096)
                .background(false)
                .open_in(&after)
                .unwrap_or_else(|e| panic!("again {at} {newest} {e}"));
            assert_eq!(j3.stats().entries, n + 1);
            assert!(j3.recovery().clean);
        }
    }
}
