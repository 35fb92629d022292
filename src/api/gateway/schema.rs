//! etcd's messages and methods as tables, made from the `.proto` files by `build.rs`: what the
//! translation from and to JSON needs to know of them.
//!
//! Fields are in the order of their declaration, in which JSON lists them. Transactions inside of
//! transactions are messages here, as in etcd; the generated code keeps them as bytes.

/// A message of etcd's API.
#[derive(Debug)]
pub(super) struct Message {
    /// With its package.
    pub(super) name: &'static str,
    /// In the order of their declaration.
    pub(super) fields_declared: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// Its number on the wire.
    pub(super) number: u32,
    /// Its name as declared, which answers use.
    pub(super) name: &'static str,
    /// Its name in camel case, which requests may use as well.
    pub(super) json: &'static str,
    /// The type of its values.
    pub(super) kind: Kind,
    /// Whether it is repeated.
    pub(super) is_list: bool,
    /// Whether it is one of several of which a message has one: present even if it is zero.
    pub(super) is_of_oneof: bool,
}

/// The type of a field's values.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub(super) enum Kind {
    Bool,
    Int64,
    Uint32,
    Uint64,
    String,
    Bytes,
    Enum(&'static Enum),
    Message(&'static Message),
}

/// An enum of etcd's API.
#[derive(Debug)]
pub(super) struct Enum {
    /// With its package, and the message in which it is declared.
    pub(super) name: &'static str,
    /// Names and numbers.
    pub(super) values: &'static [(&'static str, i32)],
}

/// A method of one of etcd's services.
#[derive(Debug)]
pub(super) struct Method {
    /// Its path in gRPC: `/package.Service/Method`.
    pub(super) path: &'static str,
    /// The message that it takes.
    pub(super) request: &'static Message,
    /// The message that it gives.
    pub(super) response: &'static Message,
    /// Whether it takes many.
    pub(super) takes_stream: bool,
    /// Whether it gives many.
    pub(super) gives_stream: bool,
}

include!(concat!(env!("OUT_DIR"), "/json_tables.rs"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn reachable(
        from: &'static Message,
        all: &mut BTreeSet<&'static str>,
        each: &mut dyn FnMut(&Message),
    ) {
        if all.insert(from.name) {
            each(from);
            for field in from.fields_declared {
                if let Kind::Message(inner) = field.kind {
                    reachable(inner, all, each);
                }
            }
        }
    }

    /// Goal: answers list their fields as etcd's do. etcd goes by the declarations; the translation
    /// goes by the bytes, which are in the order of the numbers.
    #[test]
    fn the_fields_of_answers_are_declared_in_the_order_of_their_numbers() {
        let mut all = BTreeSet::new();
        for method in METHODS {
            reachable(method.response, &mut all, &mut |message| {
                let numbers: Vec<u32> =
                    message.fields_declared.iter().map(|field| field.number).collect();
                assert!(numbers.is_sorted(), "{}: {numbers:?}", message.name);
            });
        }
        assert!(all.contains("mvccpb.KeyValue") && all.contains("etcdserverpb.TxnResponse"));
    }

    #[test]
    fn names_have_both_spellings_and_nested_transactions_are_messages() {
        let put = METHODS.iter().find(|method| method.path == "/etcdserverpb.KV/Put").unwrap();
        let names: Vec<_> =
            put.request.fields_declared.iter().map(|field| (field.name, field.json)).collect();
        assert_eq!(names[3], ("prev_kv", "prevKv"));
        let txn = METHODS.iter().find(|method| method.path == "/etcdserverpb.KV/Txn").unwrap();
        let Kind::Message(operation) = txn.request.fields_declared[1].kind else { panic!() };
        assert!(
            matches!(operation.fields_declared[3].kind, Kind::Message(inner) if inner.name == txn.request.name)
        );
        assert!(operation.fields_declared[3].is_of_oneof && !txn.takes_stream && !txn.gives_stream);
    }
}
