//! Questions to the kernel's BTF: where is a member, how many arguments has a
//! function, which number has it.
//!
//! A kernel has over 100,000 types, and tracer asks for some forty. A tree of all
//! would take most of the time of a start and most of its memory, so this walks over
//! the bytes once, notes where each type begins, and reads the rest when asked.

mod format;

use std::collections::HashMap;

use anyhow::{Context, Result};

use format::{Kind, Member, Type};

/// Where the running kernel publishes its types.
pub(crate) const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Anonymous structs and typedefs nest; nothing in the kernel comes close.
const MAX_DEPTH: usize = 16;

/// Members looked at for one name. The kernel's largest structs have some hundreds;
/// in bytes made to be harmful, structs may contain each other.
const MAX_MEMBERS: usize = 1 << 16;

/// The types of one kernel.
pub(crate) struct KernelTypes<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where in `types` each type begins. The first is number 1: number 0 is void.
    begins: Vec<u32>,
    /// Those that can be asked for, if the kernel has them: of several with one name,
    /// the first.
    named: HashMap<(Named, &'static str), u32>,
}

/// What is asked for by its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Named {
    Struct,
    Function,
}

/// A function, as programs attach to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) arguments: usize,
    /// Its number among the kernel's types.
    pub(crate) type_id: u32,
}

impl<'a> KernelTypes<'a> {
    /// Walks over a `.BTF` section. What is asked for later has to be in `structs` or
    /// in `functions`.
    ///
    /// # Errors
    /// The bytes are not BTF, or have a kind of type that nobody knew in 2026.
    pub(crate) fn parse(
        bytes: &'a [u8],
        structs: &[&'static str],
        functions: &[&'static str],
    ) -> Result<Self> {
        let (types, strings) = format::sections(bytes).context("this is no BTF of a kernel")?;
        let mut this = Self {
            types,
            strings,
            // On average a type takes about thirty bytes.
            begins: Vec::with_capacity(types.len() / 24),
            named: HashMap::new(),
        };
        let mut at = 0;
        while at < types.len() {
            let found = Type::read(types, at)
                .with_context(|| format!("the kernel's BTF has an unknown type at byte {at}"))?;
            this.begins.push(u32::try_from(at)?);
            match found.kind {
                Kind::Struct => this.note(&found, Named::Struct, structs),
                Kind::Function => this.note(&found, Named::Function, functions),
                _ => {}
            }
            at = found.end;
        }
        Ok(this)
    }

    /// Remembers the type that was read last, if it is one of `wanted`.
    fn note(&mut self, found: &Type<'_>, named: Named, wanted: &[&'static str]) {
        let own = format::string(self.strings, found.name);
        let name = wanted.iter().find(|name| name.as_bytes() == own);
        if let (Some(name), Ok(number)) = (name, u32::try_from(self.begins.len())) {
            self.named.entry((named, name)).or_insert(number);
        }
    }

    /// Byte offset of `path` (members joined by dots, looked for inside
    /// anonymous members too) in `structure`. `None`: this kernel has no such
    /// member, or it is a bit-field.
    pub(crate) fn offset(&self, structure: &'static str, path: &str) -> Option<u32> {
        let mut bits: u32 = 0;
        let mut current = self.get(*self.named.get(&(Named::Struct, structure))?)?;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let mut left = MAX_MEMBERS;
            let member = self.member(&current, name.as_bytes(), 0, &mut left)?;
            bits = bits.checked_add(member.offset)?;
            if names.peek().is_some() {
                current = self.composite(member.type_id)?;
            }
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// `None`: no such function.
    pub(crate) fn function(&self, name: &'static str) -> Option<Function> {
        let type_id = *self.named.get(&(Named::Function, name))?;
        let prototype = self.get(self.get(type_id)?.about)?;
        (prototype.kind == Kind::Prototype).then_some(Function {
            arguments: prototype.count,
            type_id,
        })
    }

    /// Whether the names of all functions are in the section of strings.
    #[cfg(feature = "fuzz")]
    pub(crate) fn has_all_names(&self) -> bool {
        let ids = 1..=u32::try_from(self.begins.len()).unwrap_or(u32::MAX);
        let functions = ids.filter_map(|id| self.get(id));
        functions
            .filter(|found| found.kind == Kind::Function)
            .all(|found| usize::try_from(found.name).is_ok_and(|name| name < self.strings.len()))
    }

    fn get(&self, type_id: u32) -> Option<Type<'a>> {
        let index = usize::try_from(type_id).ok()?.checked_sub(1)?;
        let at = usize::try_from(*self.begins.get(index)?).ok()?;
        Type::read(self.types, at)
    }

    /// The member `name`, with its offset from the begin of `structure`.
    fn member(
        &self,
        structure: &Type<'a>,
        name: &[u8],
        depth: usize,
        left: &mut usize,
    ) -> Option<Member> {
        if depth > MAX_DEPTH {
            return None;
        }
        for member in structure.members() {
            *left = left.checked_sub(1)?;
            let own = format::string(self.strings, member.name);
            if own == name {
                return (!member.is_bit_field).then_some(member);
            }
            if own.is_empty()
                && let Some(inner) = self.composite(member.type_id)
                && let Some(found) = self.member(&inner, name, depth + 1, left)
            {
                let offset = member.offset.checked_add(found.offset)?;
                return Some(Member { offset, ..found });
            }
        }
        None
    }

    /// The struct or union behind typedefs and qualifiers.
    fn composite(&self, mut type_id: u32) -> Option<Type<'a>> {
        for _ in 0..MAX_DEPTH {
            let found = self.get(type_id)?;
            match found.kind {
                Kind::Struct | Kind::Union => return Some(found),
                Kind::Alias => type_id = found.about,
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
