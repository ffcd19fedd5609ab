//! What is written is what a value of the same bytes says.

use super::*;
use crate::dump::payload::Payload;
use proptest::prelude::*;

/// As it is written, and as it is said by a payload that is held as a value.
fn both(bytes: &[u8], codec: Option<Codec>, style: PayloadStyle) -> [String; 2] {
    let large = LargePayload::of(bytes, codec, style).unwrap();
    let mut written = Vec::new();
    large.write_text(&mut written).unwrap();
    [String::from_utf8(written).unwrap(), Payload::of_value(bytes, codec, style).text()]
}

#[cfg(feature = "json")]
fn both_as_json(bytes: &[u8], codec: Option<Codec>, style: PayloadStyle) -> [serde_json::Value; 2] {
    let large = LargePayload::of(bytes, codec, style).unwrap();
    let mut written = format!("{{\"{}\":", large.member()).into_bytes();
    large.write_json(&mut written).unwrap();
    if let Some(error) = large.decode_error() {
        let error = serde_json::to_string(&error.to_string()).unwrap();
        written.extend(format!(",\"decode_error\":{error}").into_bytes());
    }
    written.push(b'}');
    let said = serde_json::to_vec(&Payload::of_value(bytes, codec, style).fields(bytes, style)).unwrap();
    assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&said));
    [&written, &said].map(|json| serde_json::from_slice(json).unwrap())
}

fn is_the_same(bytes: &[u8]) {
    for codec in [None, Some(Codec::Bytes), Some(Codec::Json), Some(Codec::MessagePack)] {
        for style in [PayloadStyle::Auto, PayloadStyle::Text, PayloadStyle::Hex, PayloadStyle::Base64] {
            let [written, said] = both(bytes, codec, style);
            assert_eq!(written, said, "{codec:?} {style:?}");
            #[cfg(feature = "json")]
            {
                let [written, said] = both_as_json(bytes, codec, style);
                assert_eq!(written, said, "{codec:?} {style:?}");
            }
        }
    }
}

#[test]
fn what_is_written_is_what_a_value_says() {
    let long = "\u{e9}\"\\\n\u{202e}\u{7}x".repeat(2 * PIECE);
    let cases: Vec<Vec<u8>> = vec![
        b"".into(),
        b"plain".into(),
        long.clone().into_bytes(),
        b"\xff\x00".repeat(PIECE),
        b"[1,-2,3.5,1e300,-0.0,null,true,{\"a\":{},\"a\":[]},\"\\u0007\\n\"] ".to_vec(),
        b"{\"open\":[1,2".into(),
        b"[1] behind".into(),
        rmp_serde::to_vec_named(&(1, -70_000, 0.1_f32, 1e-7, None::<u8>, true, long, vec![(1, "b")]))
            .unwrap(),
        // A map with names that are no texts, an extension, bytes, a list, and what ends early.
        b"\x84\x01\xc0\xc4\x02\xff\x00\x91\xa1a\xd4\x05\x09\x80\xa1\xff\x90".into(),
        b"\x92\x01".into(),
        b"\x01\x02".into(),
        vec![0x91; 100],
    ];
    cases.iter().for_each(|bytes| is_the_same(bytes));
}

#[test]
fn a_writer_that_fails_is_told_of() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (bytes, codec) in
        [(&b"[1,[2]]"[..], Codec::Json), (b"\x91\x01", Codec::MessagePack), (b"a", Codec::Bytes)]
    {
        let large = LargePayload::of(bytes, Some(codec), PayloadStyle::Auto).unwrap();
        assert_eq!(large.write_text(&mut Full).unwrap_err().kind(), io::ErrorKind::StorageFull, "{codec:?}");
    }
}

#[test]
fn names_and_lengths_are_those_of_the_map() {
    let row = rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("a", "text"), ("b", "")])).unwrap();
    let large = LargePayload::of(&row, Some(Codec::MessagePack), PayloadStyle::Auto).unwrap();
    assert_eq!(large.find_name(|name| *name == Value::Text("b".into())), Some(Some(Value::Text("b".into()))));
    assert_eq!(large.find_name(|_| false), Some(None));
    let list = LargePayload::of(b"\x91\x01", Some(Codec::MessagePack), PayloadStyle::Auto).unwrap();
    assert_eq!(list.find_name(|_| true), None);
    let told = lengths(&row, |_| true).unwrap();
    assert_eq!(told.iter().map(|(_, length)| length.to_string()).collect::<Vec<_>>(), ["4", "0"]);
    assert_eq!(lengths(&row, |name| name == "a"), None);
    assert_eq!(lengths(&[&row[..], b"\x00"].concat(), |_| true), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_written_as_a_value_says_them(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        is_the_same(&bytes);
    }

    #[test]
    fn any_text_is_written_as_a_value_says_it(text in "[\\[\\]{}:,\"0-9a-e\\\\ \u{7}-\u{a}\u{e9}\u{202e}-]{0,40}") {
        is_the_same(text.as_bytes());
    }
}
