//! The kernel's functions, as aya looks for them.

use std::collections::BTreeMap;

use aya::Btf;
use aya_obj::btf::{BtfType, Func, FuncLinkage};

use crate::host::btf::Function;

/// BTF in which each of `functions` has the number that it has in the kernel's, and
/// nothing else has a name.
///
/// To attach, aya asks for the number of a function and for nothing more
/// (`id_by_type_name_kind`, aya-obj 0.3): that is not worth a tree of all types.
pub(super) fn as_btf(functions: &BTreeMap<&'static str, Function>) -> Btf {
    let mut in_order: Vec<_> = functions.iter().collect();
    in_order.sort_unstable_by_key(|(_, function)| function.type_id);
    let mut btf = Btf::new();
    // Number 0 is there from the start.
    let mut next = 1;
    for (name, function) in in_order {
        while next < function.type_id {
            next = btf.add_type(BtfType::Unknown) + 1;
        }
        let name = btf.add_string(name);
        let function = Func::new(name, 0, FuncLinkage::Static);
        next = btf.add_type(BtfType::Func(function)) + 1;
    }
    btf
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya_obj::btf::BtfKind;

    #[test]
    fn each_function_has_its_number() {
        let function = |type_id| Function {
            arguments: 1,
            type_id,
        };
        let functions = [("b", function(7)), ("a", function(9)), ("c", function(1))];
        let btf = as_btf(&functions.into_iter().collect());
        for (name, function) in functions {
            let found = btf.id_by_type_name_kind(name, BtfKind::Func);
            assert_eq!(found.ok(), Some(function.type_id), "{name}");
        }
        assert!(btf.id_by_type_name_kind("d", BtfKind::Func).is_err());
    }
}
