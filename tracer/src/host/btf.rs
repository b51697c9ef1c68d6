//! Questions to the kernel's BTF: where is a member, how many arguments has a
//! function.

use anyhow::{Context, Result};
use btf_rs::{Btf, BtfType, Struct, Type};

/// Where the running kernel publishes its types.
pub(crate) const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Anonymous structs and typedefs nest; nothing in the kernel comes close.
const MAX_DEPTH: usize = 16;

/// The types of one kernel.
pub(crate) struct KernelTypes {
    btf: Btf,
}

impl KernelTypes {
    /// Parses a `.BTF` section.
    ///
    /// # Errors
    /// The bytes are not BTF.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let btf = Btf::from_bytes(bytes).context("the kernel's BTF cannot be read")?;
        Ok(Self { btf })
    }

    /// Byte offset of `path` (members joined by dots, looked for inside
    /// anonymous members too) in `structure`. `None`: this kernel has no such
    /// member, or it is a bit-field.
    pub(crate) fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut bits = 0;
        let mut current = self.structure(structure)?;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let (offset, type_id) = self.member(&current, name, 0)?;
            bits += offset;
            if names.peek().is_some() {
                current = self.as_structure(type_id)?;
            }
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// How many arguments `function` takes. `None`: no such function.
    pub(crate) fn arguments(&self, function: &str) -> Option<usize> {
        let types = self.btf.resolve_types_by_name(function).ok()?;
        types.into_iter().find_map(|candidate| {
            let Type::Func(func) = candidate else {
                return None;
            };
            match self.btf.resolve_chained_type(&func).ok()? {
                Type::FuncProto(proto) => Some(proto.parameters.len()),
                _ => None,
            }
        })
    }

    fn structure(&self, name: &str) -> Option<Struct> {
        let types = self.btf.resolve_types_by_name(name).ok()?;
        types.into_iter().find_map(|candidate| match candidate {
            Type::Struct(found) => Some(found),
            _ => None,
        })
    }

    /// Bit offset and type of the member `name`.
    fn member(&self, structure: &Struct, name: &str, depth: usize) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH {
            return None;
        }
        for member in &structure.members {
            let own = self.btf.resolve_name(member).unwrap_or_default();
            let type_id = member.get_type_id()?;
            if own == name {
                let is_bit_field = member.bitfield_size().is_some_and(|size| size != 0);
                return (!is_bit_field).then_some((member.bit_offset(), type_id));
            }
            if own.is_empty()
                && let Some(inner) = self.as_structure(type_id)
                && let Some((offset, found)) = self.member(&inner, name, depth + 1)
            {
                return Some((member.bit_offset() + offset, found));
            }
        }
        None
    }

    /// The struct or union behind typedefs and qualifiers.
    fn as_structure(&self, mut type_id: u32) -> Option<Struct> {
        for _ in 0..MAX_DEPTH {
            match self.btf.resolve_type_by_id(type_id).ok()? {
                Type::Struct(found) | Type::Union(found) => return Some(found),
                Type::Typedef(inner) => type_id = inner.get_type_id()?,
                Type::Volatile(inner) | Type::Const(inner) | Type::Restrict(inner) => {
                    type_id = inner.get_type_id()?;
                }
                Type::TypeTag(inner) => type_id = inner.get_type_id()?,
                _ => return None,
            }
        }
        None
    }
}
