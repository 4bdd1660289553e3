//! Any text is an expression or an error that points into it; what is written back reads as the same.
#![no_main]
use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../crates/chainrule-cli/src/expression/mod.rs"]
mod expression;

fuzz_target!(|text: &str| {
    match expression::Expression::parse(text) {
        Ok(parsed) => {
            assert!(!parsed.nodes().is_empty());
            let written = parsed.to_string();
            if written.len() <= expression::MAX_LENGTH {
                match expression::Expression::parse(&written) {
                    Ok(again) => assert_eq!(again, parsed, "{text:?} was written {written:?}"),
                    Err(error) => panic!("{text:?} was written {written:?}: {error}"),
                }
            }
            parsed.to_latex();
            parsed.variables();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
