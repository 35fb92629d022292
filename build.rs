//! Compiles the `.proto` files below `src/pb/proto` in Rust alone, without protoc: messages and
//! services for tonic, and tables of both for the JSON gateway, which translates by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::Path,
};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const FILES: &[&str] = &[
    "rpc.proto",
    "raft_internal.proto",
    "etcdserver.proto",
    "membership.proto",
    "raft.proto",
    "record.proto",
    "snap.proto",
    "lease.proto",
    "v3lock.proto",
    "v3election.proto",
    "glass.proto",
    "otlp.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src/pb/proto");
    let descriptors = protox::compile(FILES, ["src/pb/proto"])?;
    let tables = Tables::of(&descriptors).text()?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("json_tables.rs"), tables)?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.enable_type_names();
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// The packages whose services the gateway serves.
const GATEWAY: &[&str] = &["etcdserverpb", "v3lockpb", "v3electionpb"];

/// Fields that are bytes here and messages in etcd: transactions inside of transactions.
const NESTED: &[(&str, &str)] = &[
    (".etcdserverpb.RequestOp.request_txn", ".etcdserverpb.TxnRequest"),
    (".etcdserverpb.ResponseOp.response_txn", ".etcdserverpb.TxnResponse"),
];

/// All messages and enums by their names, which begin with a dot, and the services' methods.
struct Tables<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    methods: Vec<(String, String, String, [bool; 2])>,
}

impl<'a> Tables<'a> {
    fn of(set: &'a FileDescriptorSet) -> Self {
        let (messages, enums) = (BTreeMap::new(), BTreeMap::new());
        let mut tables = Tables { messages, enums, methods: Vec::new() };
        for file in &set.file {
            let package = file.package();
            for kind in &file.enum_type {
                tables.enums.insert(format!(".{package}.{}", kind.name()), kind);
            }
            for message in &file.message_type {
                tables.add(&format!(".{package}"), message);
            }
            for service in file.service.iter().filter(|_| GATEWAY.contains(&package)) {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    let streams = [method.client_streaming(), method.server_streaming()];
                    let types = [method.input_type(), method.output_type()].map(str::to_owned);
                    let [request, response] = types;
                    tables.methods.push((path, request, response, streams));
                }
            }
        }
        tables
    }

    fn add(&mut self, within: &str, message: &'a DescriptorProto) {
        let name = format!("{within}.{}", message.name());
        for kind in &message.enum_type {
            self.enums.insert(format!("{name}.{}", kind.name()), kind);
        }
        for inner in &message.nested_type {
            self.add(&name, inner);
        }
        self.messages.insert(name, message);
    }

    /// The tables, for `src/api/gateway/schema.rs`.
    fn text(&self) -> Result<String, Box<dyn Error>> {
        let mut text = String::new();
        let mut wanted: Vec<&str> = self
            .methods
            .iter()
            .flat_map(|(_, request, response, _)| [&**request, response])
            .collect();
        let (mut done, mut enums) = (BTreeSet::new(), BTreeSet::new());
        while let Some(name) = wanted.pop() {
            if !done.insert(name) {
                continue;
            }
            let message = self.messages.get(name).ok_or_else(|| format!("no message {name}"))?;
            let (ident, shown) = (ident(name), &name[1..]);
            writeln!(
                text,
                "static {ident}: Message = Message {{ name: {shown:?}, fields_declared: &["
            )?;
            for field in &message.field {
                let (kind, used) = self.kind(name, field)?;
                match kind {
                    "Message" => wanted.push(used),
                    "Enum" => _ = enums.insert(used),
                    _ => (),
                }
                writeln!(text, "    {}", field_text(field, kind, used))?;
            }
            writeln!(text, "] }};")?;
        }
        for name in enums {
            let (ident, shown) = (ident(name), &name[1..]);
            let values = self.enums.get(name).ok_or_else(|| format!("no enum {name}"))?;
            let values: Vec<_> =
                values.value.iter().map(|value| (value.name(), value.number())).collect();
            writeln!(
                text,
                "static {ident}: Enum = Enum {{ name: {shown:?}, values: &{values:?} }};"
            )?;
        }
        writeln!(
            text,
            "/// The methods of etcd's services.\npub(super) static METHODS: &[Method] = &["
        )?;
        for (path, request, response, [of_client, of_server]) in &self.methods {
            let [request, response] = [request, response].map(|name| ident(name));
            writeln!(
                text,
                "    Method {{ path: {path:?}, request: &{request}, response: &{response}, \
                 takes_stream: {of_client}, gives_stream: {of_server} }},"
            )?;
        }
        writeln!(text, "];")?;
        Ok(text)
    }

    /// A field's kind, and the message or the enum that it uses.
    fn kind(
        &self,
        message: &str,
        field: &'a FieldDescriptorProto,
    ) -> Result<(&'static str, &'a str), String> {
        let name = format!("{message}.{}", field.name());
        if let Some((_, nested)) = NESTED.iter().find(|(bytes, _)| *bytes == name) {
            return Ok(("Message", nested));
        }
        Ok(match field.r#type() {
            Type::Bool => ("Bool", ""),
            Type::Int64 => ("Int64", ""),
            Type::Uint32 => ("Uint32", ""),
            Type::Uint64 => ("Uint64", ""),
            Type::String => ("String", ""),
            Type::Bytes => ("Bytes", ""),
            Type::Enum => ("Enum", field.type_name()),
            Type::Message => ("Message", field.type_name()),
            other => {
                return Err(format!("{name} is a {other:?}, which the gateway cannot translate"));
            }
        })
    }
}

/// A field of a message in its table.
fn field_text(field: &FieldDescriptorProto, kind: &str, used: &str) -> String {
    let kind = match used {
        "" => kind.to_owned(),
        used => format!("{kind}(&{})", ident(used)),
    };
    let (name, number, json) = (field.name(), field.number(), camel_case(field.name()));
    let (list, oneof) = (field.label() == Label::Repeated, field.oneof_index.is_some());
    format!(
        "Field {{ number: {number}, name: {name:?}, json: {json:?}, kind: Kind::{kind}, \
         is_list: {list}, is_of_oneof: {oneof} }},"
    )
}

fn ident(name: &str) -> String {
    name[1..].replace('.', "_").to_uppercase()
}

/// A field's other name in JSON: no underscores, and an upper-case letter after each.
fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        text.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}
