//! How BTF lies in bytes: Documentation/bpf/btf.rst and include/uapi/linux/btf.h, as
//! of Linux 7.2. Any bytes give a type or nothing.

/// `BTF_MAGIC` and `BTF_VERSION`, in the byte order of all that tracer runs on.
const BEGIN: [u8; 3] = [0x9f, 0xeb, 1];

/// Bytes of `struct btf_type`, `struct btf_member`, and `struct btf_param`.
const TYPE: usize = 12;
const MEMBER: usize = 12;
const PARAMETER: usize = 8;

/// `BTF_KIND_*`, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Struct,
    Union,
    /// A typedef, or a qualifier or tag of another type.
    Alias,
    Function,
    Prototype,
    /// Whatever nobody asks for.
    Other,
}

/// One type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type<'a> {
    pub(super) kind: Kind,
    /// Where in the strings its name begins.
    pub(super) name: u32,
    /// How many members or parameters it has.
    pub(super) count: usize,
    /// The number of the type that it is about; for a struct, its size.
    pub(super) about: u32,
    /// Where in the bytes the next type begins.
    pub(super) end: usize,
    has_bit_fields: bool,
    rest: &'a [u8],
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Where in the strings its name begins.
    pub(super) name: u32,
    pub(super) type_id: u32,
    /// From the begin of the struct, in bits.
    pub(super) offset: u32,
    pub(super) is_bit_field: bool,
}

impl<'a> Type<'a> {
    /// The type that begins at byte `at`.
    pub(super) fn read(types: &'a [u8], at: usize) -> Option<Self> {
        let (head, rest) = types.get(at..)?.split_at_checked(TYPE)?;
        let info = word(head, 4)?;
        let count = usize::from(u16::try_from(info & 0xffff).ok()?);
        let (kind, length) = match (info >> 24) & 0x1f {
            // int, variable, and a tag of a declaration have a word more.
            1 | 14 | 17 => (Kind::Other, 4),
            // A pointer, a forward declaration, a float.
            2 | 7 | 16 => (Kind::Other, 0),
            // An array.
            3 => (Kind::Other, 12),
            4 => (Kind::Struct, count * MEMBER),
            5 => (Kind::Union, count * MEMBER),
            // An enum.
            6 => (Kind::Other, count * 8),
            // typedef, volatile, const, restrict, a tag of a type.
            8..=11 | 18 => (Kind::Alias, 0),
            12 => (Kind::Function, 0),
            13 => (Kind::Prototype, count * PARAMETER),
            // A section, and an enum of 64 bits.
            15 | 19 => (Kind::Other, count * 12),
            _ => return None,
        };
        Some(Self {
            kind,
            name: word(head, 0)?,
            count,
            about: word(head, 8)?,
            end: at.checked_add(TYPE)?.checked_add(length)?,
            has_bit_fields: info >> 31 == 1,
            rest: rest.get(..length)?,
        })
    }

    /// None for what is neither struct nor union.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> + use<'a> {
        let is_composite = matches!(self.kind, Kind::Struct | Kind::Union);
        let rest = if is_composite { self.rest } else { &[] };
        let has_bit_fields = self.has_bit_fields;
        rest.chunks_exact(MEMBER).filter_map(move |bytes| {
            let offset = word(bytes, 8)?;
            // With bit-fields, the upper eight bits are the width of one, or 0.
            let (width, offset) = match has_bit_fields {
                true => (offset >> 24, offset & 0x00ff_ffff),
                false => (0, offset),
            };
            Some(Member {
                name: word(bytes, 0)?,
                type_id: word(bytes, 4)?,
                offset,
                is_bit_field: width != 0,
            })
        })
    }
}

/// The types and the strings of a `.BTF` section.
pub(super) fn sections(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if !bytes.starts_with(&BEGIN) {
        return None;
    }
    let header = usize::try_from(word(bytes, 4)?).ok()?;
    let section = |at: usize| {
        let begin = header.checked_add(usize::try_from(word(bytes, at)?).ok()?)?;
        let length = usize::try_from(word(bytes, at + 4)?).ok()?;
        bytes.get(begin..begin.checked_add(length)?)
    };
    Some((section(8)?, section(16)?))
}

/// What is called nothing has an empty name.
pub(super) fn string(strings: &[u8], at: u32) -> &[u8] {
    let from = usize::try_from(at).ok().and_then(|at| strings.get(at..));
    let from = from.unwrap_or_default();
    let end = memchr::memchr(0, from).unwrap_or(from.len());
    from.get(..end).unwrap_or_default()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}
