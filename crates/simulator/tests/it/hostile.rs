//! A host that does harm, as its plan says.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::fixture::{Finished, Fixture, OCCLUM_JSON, finish, program};

/// An instance with a host mount and a writable layer on disk.
fn fixture() -> Fixture {
    let mut configuration: Value = serde_json::from_str(OCCLUM_JSON).unwrap();
    let mounts = configuration["mount"].as_array_mut().unwrap();
    mounts[0]["options"]["layers"][1]["options"] = json!({});
    mounts.push(json!({"target": "/host", "type": "hostfs", "source": "./host"}));
    let fixture = Fixture::with_config(&configuration.to_string());
    fixture.add(&program("victim"), "/bin/victim");
    fs::create_dir(fixture.path("instance/host")).unwrap();
    fs::create_dir_all(fixture.path("instance/image/root")).unwrap();
    fixture
}

impl Fixture {
    /// Runs under a host with these steps; the report's lines.
    #[track_caller]
    fn suffer(&self, steps: &Value, options: &[&str], program: &[&str]) -> (Finished, Vec<Value>) {
        fs::write(self.path("plan.json"), json!({"steps": steps}).to_string()).unwrap();
        let mut command = self.command(&["hostile", "--plan"]);
        command.arg(self.path("plan.json")).arg("--report").arg(self.path("report.jsonl"));
        command.arg("--instance").arg(self.path("instance")).arg("--root").arg(self.path("root"));
        let finished = finish(command.args(options).arg("--").args(program).env("EDG_MARBLE_TYPE", "given"));
        let text = fs::read_to_string(self.path("report.jsonl")).unwrap_or_default();
        (finished, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }
}

/// The program prints this under a host with these steps, all of which are done.
#[track_caller]
fn check(fixture: &Fixture, steps: Value, program: &[&str], code: i32, stdout: &str) -> Vec<Value> {
    let (finished, lines) = fixture.suffer(&steps, &["--strict"], program);
    finished.expect(code, stdout);
    for (index, _) in steps.as_array().unwrap().iter().enumerate() {
        let done = |line: &&Value| line["step"] == index + 1 && line["result"] == "done";
        assert!(lines.iter().any(|line| done(&line)), "step {} is not done: {lines:#?}", index + 1);
    }
    lines
}

fn at(name: &str, nth: u32) -> Value {
    json!({"call": {"name": name, "nth": nth}})
}

// rules: SIM-14
#[test]
fn chosen_quotes_and_calls_fail() {
    let fixture = fixture();
    let steps = json!([{"at": {"call": {"name": "quote", "nth": 2, "times": 2}}, "do": {"fail": {"errno": "EINVAL"}}}]);
    let expected = "quote 1: made\nquote 2: EINVAL\nquote 3: EINVAL\nquote 4: made";
    let lines = check(&fixture, steps, &["/bin/victim", "quotes", "4"], 0, expected);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert_eq!((&lines[1]["at"], &lines[1]["count"]), (&json!("quote"), &json!(3)));
    assert_eq!((&lines[1]["action"], &lines[1]["program"]), (&json!("fail"), &json!("/bin/victim")));

    let steps = json!([{"at": {"call": {"name": "quote", "nth": 1, "times": 9}}, "do": "note"}]);
    let lines = check(&fixture, steps, &["/bin/victim", "quotes", "2"], 0, "quote 1: made\nquote 2: made");
    assert_eq!(lines.len(), 2, "{lines:#?}");

    let steps = json!([
        {"at": at("fsync", 1), "do": {"fail": {"errno": "EIO"}}},
        {"at": {"call": {"name": "write", "nth": 2, "path": "/host"}}, "do": {"fail": {"errno": "ENOSPC"}}},
        {"at": {"call": {"name": "rename", "nth": 2, "path": "/host/saved"}}, "do": {"fail": {"errno": "EROFS"}}},
    ]);
    let expected = "fsync: errno 5\nsaved 1\nwrite: errno 28\nrename: errno 30\nsaved 2";
    let lines = check(&fixture, steps, &["/bin/victim", "save", "2"], 0, expected);
    assert_eq!(lines[1]["path"], "/host/new", "{lines:#?}");
}

fn now() -> String {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string()
}

// rules: SIM-15
#[test]
fn the_clock_is_turned_for_every_program_and_every_way_to_ask() {
    let fixture = fixture();
    fixture.add_file(&program("victim-static"), "static");
    let back = json!([{"at": "start", "do": {"clock": {"offset_seconds": -864000}}}]);
    let forth = json!([{"at": "start", "do": {"clock": {"offset_seconds": 864060}}}]);
    let (turned_back, turned_forth) =
        ("-10 -10 -10 -10 -10 days, monotonic right", "10 10 10 10 10 days, monotonic right");
    let begin = (now().parse::<u64>().unwrap() + 60).to_string();
    check(&fixture, back.clone(), &["/bin/victim", "clocks", &begin], 0, turned_back);
    check(&fixture, back.clone(), &["/bin/victim", "exec", &begin], 0, turned_back);
    check(&fixture, forth, &["/bin/victim", "clocks", &now()], 0, turned_forth);
    let (lenient, _) = fixture.suffer(&back, &[], &["/bin/static", "clocks", &begin]);
    lenient.expect(0, turned_back);

    let later = json!([{
        "at": {"call": {"name": "open", "nth": 1, "path": "/host/turn"}},
        "do": {"clock": {"offset_seconds": -864000}}
    }]);
    let expected = format!("0 0 0 0 0 days, monotonic right\n{turned_back}");
    check(&fixture, later, &["/bin/victim", "clocks-again", &begin], 0, &expected);
}

// rules: SIM-14
#[test]
fn files_are_swapped_cut_and_removed_between_calls() {
    let fixture = fixture();
    fs::write(fixture.path("other"), "other\n").unwrap();
    let saved = fixture.path("instance/host/saved");
    fs::write(&saved, "first\n").unwrap();
    let open = |nth: u32| json!({"call": {"name": "open", "nth": nth, "path": "/host/saved"}});
    let steps = json!([
        {"at": open(2), "do": {"replace": {"file": "host/saved", "with": "other"}}},
        {"at": open(3), "do": {"truncate": {"file": "host/saved", "bytes": 0}}},
        {"at": open(4), "do": {"remove": {"file": "host/saved"}}},
    ]);
    let expected = "load 1: first\nload 2: other\nload 3: nothing\nload 4: errno 2";
    let (finished, lines) = fixture.suffer(&steps, &["--strict"], &["/bin/victim", "load", "4"]);
    finished.expect(0, expected);
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

// rules: SIM-14
#[test]
fn everything_is_killed_before_the_chosen_call_is_performed() {
    for (name, nth, printed, saved) in
        [("fsync", 2, "saved 1", "1\n"), ("rename", 3, "saved 1\nsaved 2", "2\n"), ("rename", 1, "", "")]
    {
        let fixture = fixture();
        let steps = json!([
            {"at": at(name, nth), "do": "kill"},
            {"at": at("rename", 1000), "do": "kill"},
        ]);
        let (finished, lines) = fixture.suffer(&steps, &["--strict"], &["/bin/victim", "save", "5"]);
        finished.expect(137, printed);
        assert_eq!(fs::read_to_string(fixture.path("instance/host/saved")).unwrap_or_default(), saved, "{name} {nth}");
        assert_eq!((&lines[0]["result"], &lines[1]["result"]), (&json!("done"), &json!("not reached")), "{lines:#?}");
    }
}

// rules: SIM-14
#[test]
fn state_is_saved_rolled_back_and_cloned() {
    let fixture = fixture();
    check(&fixture, json!([{"at": "end", "do": {"save": {"to": "saved"}}}]), &["/bin/victim", "count"], 0, "1");
    fs::write(fixture.path("instance/host/file"), "new").unwrap();
    check(&fixture, json!([{"at": "end", "do": {"clone": {"into": "second"}}}]), &["/bin/victim", "count"], 0, "2");
    let mut second = fixture.command(&["run", "--root"]);
    second.arg(fixture.path("root")).arg("--instance").arg(fixture.path("second"));
    finish(second.args(["--", "/bin/victim", "count"])).expect(0, "3");
    assert!(fixture.path("second/host/file").exists());
    check(&fixture, json!([{"at": "start", "do": {"restore": {"from": "saved"}}}]), &["/bin/victim", "count"], 0, "2");
    assert!(!fixture.path("instance/host/file").exists());
}

// rules: SIM-14
#[test]
fn connections_are_redirected() {
    let listener = |name: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                stream.unwrap().write_all(name.as_bytes()).unwrap();
            }
        });
        address
    };
    let (right, wrong) = (listener("right"), listener("wrong"));
    let port = right.port().to_string();
    let steps = json!([{"at": "start", "do": {"redirect": {"from": right, "to": wrong}}}]);
    check(&fixture(), steps.clone(), &["/bin/victim", "reach", &port], 0, "reached wrong");
    check(&fixture(), steps, &["/bin/victim", "reach-mapped", &port], 0, "reached wrong");
    let steps = json!([{"at": "start", "do": {"redirect": {"from": wrong, "to": right}}}]);
    check(&fixture(), steps, &["/bin/victim", "reach", &port], 0, "reached right");
    let steps = json!([{"at": at("connect", 1), "do": {"fail": {"errno": "ECONNREFUSED"}}}]);
    check(&fixture(), steps, &["/bin/victim", "reach", &port], 0, "connect: errno 111");
}

// rules: SIM-14
#[test]
fn the_environment_that_the_host_gives_is_changed() {
    let environment = |change: Value| json!([{"at": "start", "do": {"environment": change}}]);
    let probe = ["/bin/probe", "environment"];
    let check = |change, expected| check(&fixture(), environment(change), &probe, 0, expected);
    check(json!({"drop": ["EDG_MARBLE_TYPE"]}), "OCCLUM=yes\nLEVEL=low");
    check(json!({"set": {"LEVEL": "high", "NOT_LISTED": "1"}}), "OCCLUM=yes\nEDG_MARBLE_TYPE=given\nLEVEL=high");
    check(
        json!({"duplicate": {"EDG_MARBLE_TYPE": "other"}}),
        "OCCLUM=yes\nLEVEL=low\nEDG_MARBLE_TYPE=given\nEDG_MARBLE_TYPE=other",
    );
}

// rules: SIM-14
#[test]
fn a_step_that_is_not_reached_or_fails_ends_the_run_with_208() {
    let steps = json!([{"at": at("quote", 9), "do": "kill"}]);
    let (finished, lines) = fixture().suffer(&steps, &[], &["/bin/victim", "quotes", "2"]);
    finished.expect(208, "quote 1: made\nquote 2: made");
    assert_eq!((&lines[0]["result"], &lines[0]["count"]), (&json!("not reached"), &json!(2)));

    let steps = json!([{"at": "start", "do": {"restore": {"from": "nowhere"}}}]);
    let (finished, lines) = fixture().suffer(&steps, &[], &["/bin/victim", "quotes", "1"]);
    finished.expect(208, "quote 1: made");
    assert_eq!(lines[0]["result"], "failed");
    assert!(lines[0]["error"].as_str().unwrap().contains("No such file"), "{lines:#?}");
}

#[test]
fn a_wrong_plan_is_an_error_before_anything_runs() {
    let (finished, _) = fixture().suffer(&json!([{"at": "start", "do": "kill"}]), &[], &["/bin/victim", "quotes", "1"]);
    finished.expect_error(201, "step 1: kill is possible at a call only");
    assert_eq!(finished.stdout, "");
}

// rules: SIM-12, SIM-14
#[test]
fn an_ordinary_user_can_follow_a_plan_and_look_for_canaries_at_once() {
    let fixture = fixture();
    fs::write(fixture.path("canaries.json"), r#"{"line": {"text": "quote 2: EINVAL"}}"#).unwrap();
    fs::write(fixture.path("report.jsonl"), "").unwrap();
    let begin = now();
    let fixture = fixture.for_ordinary_user();
    let steps = json!([
        {"at": at("quote", 2), "do": {"fail": {"errno": "EINVAL"}}},
        {"at": "start", "do": {"clock": {"offset_seconds": 864060}}},
    ]);
    if crate::fixture::is_root() {
        fixture.chown(65534, "");
    }
    let canaries = fixture.path("canaries.json");
    let options = ["--strict", "--canaries", canaries.to_str().unwrap()];
    let (finished, lines) = fixture.suffer(&steps, &options, &["/bin/victim", "quotes", "2"]);
    finished.expect(207, "quote 1: made\nquote 2: EINVAL");
    assert!(lines.iter().all(|line| line["result"] == "done"), "{lines:#?}");
    let clock = json!([{"at": "start", "do": {"clock": {"offset_seconds": 864060}}}]);
    let (finished, _) = fixture.suffer(&clock, &["--strict"], &["/bin/victim", "clocks", &begin]);
    finished.expect(0, "10 10 10 10 10 days, monotonic right");
}

// rules: SIM-10, SIM-14, SIM-15
#[test]
fn beside_another_listener_the_same_harm_is_done() {
    let listen = program("listen");
    let fixture = fixture().through(&[&listen, "other".as_ref()]);
    let begin = now();
    let clock = json!([{"at": "start", "do": {"clock": {"offset_seconds": 864060}}}]);
    let expected = "10 10 10 10 10 days, monotonic right";
    check(&fixture, clock, &["/bin/victim", "clocks", &begin], 0, expected);
    let kill = json!([{"at": at("fsync", 2), "do": "kill"}]);
    check(&fixture, kill, &["/bin/victim", "save", "5"], 137, "saved 1");
    assert_eq!(fs::read_to_string(fixture.path("instance/host/saved")).unwrap(), "1\n");
    let fail = json!([{"at": at("quote", 1), "do": {"fail": {"errno": "EINVAL"}}}]);
    check(&fixture, fail, &["/bin/victim", "quotes", "2"], 0, "quote 1: EINVAL\nquote 2: made");
}
