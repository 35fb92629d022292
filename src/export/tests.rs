use super::{
    chrome,
    otlp::{Exporter, Scope},
};
use crate::story::{order::Order, spoiled};

#[test]
fn no_number_in_a_file_is_too_great_for_an_export() {
    for (case, recording) in spoiled::with_the_greatest_numbers() {
        let mut out = Vec::new();
        chrome::write(&mut out, &recording).unwrap();
        let parsed = serde_json::from_slice::<serde_json::Value>(&out);
        assert!(parsed.is_ok(), "{case}: {parsed:?}");
        let order = Order::of(&recording);
        let exporter = Exporter::new(&recording, &order, Scope::Cluster);
        exporter.export(&exporter.choose(|_| true));
    }
}
