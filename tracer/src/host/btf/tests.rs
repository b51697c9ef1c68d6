use super::*;

/// `.BTF` of: 1 `int`, 2 `struct inner { int a; int b; }`, 3 typedef of it, 4 an
/// anonymous union of that, 5 `struct outer { int head; union 4; int bits : 3; }`,
/// 6 a prototype of two parameters, 7 and 8 functions.
fn sample() -> Vec<u8> {
    let strings = b"\0int\0inner\0a\0b\0alias\0outer\0head\0bits\0call\0variable\0";
    let at = |name: &str| {
        let name = [b"\0", name.as_bytes(), b"\0"].concat();
        let found = strings.windows(name.len()).position(|it| it == name);
        found.map_or(0, |at| u32::try_from(at + 1).unwrap_or(0))
    };
    let head = |name: &str, kind: u32, count: u32, about: u32| {
        let flag = u32::from(name == "outer") << 31;
        vec![at(name), (kind << 24) | count | flag, about]
    };
    let types: Vec<u32> = [
        head("int", 1, 0, 4),
        vec![32],
        head("inner", 4, 2, 8),
        vec![at("a"), 1, 0, at("b"), 1, 32],
        head("alias", 8, 0, 2),
        head("", 5, 1, 8),
        vec![0, 3, 0],
        head("outer", 4, 3, 16),
        vec![at("head"), 1, 0, 0, 4, 32, at("bits"), 1, (3 << 24) | 96],
        head("", 13, 2, 1),
        vec![at("a"), 1, at("b"), 1],
        head("call", 12, 1, 6),
        head("call", 12, 1, 1),
    ]
    .concat();
    let length = u32::try_from(types.len() * 4).unwrap_or(0);
    let header = [
        24,
        0,
        length,
        length,
        u32::try_from(strings.len()).unwrap_or(0),
    ];
    let words = header.iter().chain(&types).flat_map(|it| it.to_le_bytes());
    let begin = [0x9f, 0xeb, 1, 0].into_iter();
    begin.chain(words).chain(strings.iter().copied()).collect()
}

fn ask(bytes: &[u8]) -> Result<KernelTypes<'_>> {
    KernelTypes::parse(bytes, &["inner", "outer"], &["call", "absent"])
}

#[test]
fn members_are_found_through_what_has_no_name() -> Result<()> {
    let bytes = sample();
    let types = ask(&bytes)?;
    let cases = [
        ("inner", "b", Some(4)),
        ("outer", "head", Some(0)),
        ("outer", "a", Some(4)),
        ("outer", "b", Some(8)),
        ("outer", "bits", None),
        ("outer", "head.a", None),
        ("outer", "nothing", None),
        ("another", "a", None),
    ];
    for (structure, path, expected) in cases {
        assert_eq!(
            types.offset(structure, path),
            expected,
            "{structure}.{path}"
        );
    }
    Ok(())
}

#[test]
fn functions_have_arguments_and_a_number() -> Result<()> {
    let bytes = sample();
    let types = ask(&bytes)?;
    let expected = Function {
        arguments: 2,
        type_id: 7,
    };
    assert_eq!(types.function("call"), Some(expected));
    assert_eq!(types.function("absent"), None);
    Ok(())
}

#[test]
fn structs_that_contain_each_other_end() -> Result<()> {
    let mut bytes = sample();
    let member = [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
    let found = bytes.windows(12).position(|it| it == member);
    let at = found.context("the union's member")?;
    // It is the struct that the union is in.
    bytes[at + 4] = 5;
    let types = ask(&bytes)?;
    assert_eq!(types.offset("outer", "head"), Some(0));
    assert_eq!(types.offset("outer", "nothing"), None);
    Ok(())
}

#[test]
fn every_cut_and_every_changed_byte_is_survived() {
    let whole = sample();
    for length in 0..whole.len() {
        assert!(ask(&whole[..length]).is_err(), "cut at {length}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let Ok(types) = ask(&bytes) else { continue };
            let _ = types.offset("outer", "b");
            let _ = types.function("call");
        }
    }
}
