//! The secrets that the demo knows, and whether any of them crossed the border of an enclave.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{Background, Demo};
use crate::process::{say, succeed};

/// What the simulator looks for.
const FILE: &str = "canaries.json";

/// What the command line shows to be the administrator.
const WHO: [&str; 4] = ["--cert", "admin.pem", "--key", "admin.key"];

/// Options of `marble-sim run` for a look at the border.
pub(super) fn arguments(instance: &str) -> [String; 4] {
    ["--canaries".to_owned(), FILE.to_owned(), "--canary-report".to_owned(), report_of(instance)]
}

fn report_of(instance: &str) -> String {
    format!("{instance}-border.json")
}

/// The secrets, by name, and what was found out about them.
pub(super) struct Planted {
    secrets: BTreeMap<&'static str, Vec<u8>>,
    crossed: BTreeSet<String>,
    runs: usize,
}

impl Planted {
    fn add(&mut self, demo: &Demo, name: &'static str, secret: Vec<u8>) -> Result<()> {
        self.secrets.insert(name, secret);
        let file = self.secrets.iter().map(|(name, secret)| (*name, json!({"hex": hex::encode(secret)})));
        fs::write(demo.work.join(FILE), serde_json::to_vec(&file.collect::<BTreeMap<_, _>>())?)?;
        Ok(())
    }

    /// Ends a Coordinator and reads what the simulator saw.
    pub(super) fn collect(&mut self, demo: &Demo, instance: &str, coordinator: Background) -> Result<()> {
        coordinator.terminate()?;
        self.read(demo, instance)
    }

    /// Reads what the simulator saw of a run that has ended.
    pub(super) fn read(&mut self, demo: &Demo, instance: &str) -> Result<()> {
        let report: Value = serde_json::from_str(&demo.read(&report_of(instance))?)?;
        fs::remove_file(demo.work.join(report_of(instance)))?;
        ensure!(report["unread"] == 0, "the simulator could not look at everything: {report:#}");
        let crossed = report["crossed"].as_array().context("the simulator's report names no secrets")?;
        self.crossed.extend(crossed.iter().filter_map(Value::as_str).map(str::to_owned));
        self.runs += 1;
        Ok(())
    }

    /// The last line of the demo.
    pub(super) fn judge(&self) -> Result<()> {
        let names: Vec<_> = self.secrets.keys().copied().collect();
        println!("{} runs were watched for: {}.", self.runs, names.join(", "));
        println!("{} of {} secrets crossed the border in clear", self.crossed.len(), names.len());
        ensure!(self.crossed.is_empty(), "these secrets left an enclave in clear: {:?}", self.crossed);
        Ok(())
    }
}

impl Demo {
    /// Makes the administrator, whose password the simulator looks for from the beginning.
    pub(super) fn plant(&self) -> Result<Planted> {
        for line in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -subj /CN=administrator -keyout \
             admin.key -out admin.pem",
            "genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out recovery.key",
            "pkey -in recovery.key -pubout -out recovery.pub",
        ] {
            succeed(Command::new("openssl").current_dir(&self.work).args(line.split_whitespace()))?;
        }
        let password = succeed(Command::new("openssl").args(["rand", "-hex", "24"]))?;
        let mut planted = Planted { secrets: BTreeMap::new(), crossed: BTreeSet::new(), runs: 0 };
        planted.add(self, "password", hex::decode(password.trim())?)?;
        say("the simulator knows the administrator's password and looks for it in every byte that leaves an enclave");
        Ok(planted)
    }

    /// The sample's manifest with the administrator, who may upload the password and read the key, and a recovery key.
    pub(super) fn with_administrator(&self, manifest: &str) -> Result<String> {
        let mut manifest: Value = serde_json::from_str(manifest)?;
        manifest["Secrets"]["password"] = json!({"Type": "plain", "UserDefined": true});
        manifest["Secrets"]["sharedKey"] = json!({"Type": "symmetric-key", "Size": 128, "Shared": true});
        manifest["Marbles"]["hello"]["Parameters"]["Env"]["SHARED_KEY"] = "{{ hex .Secrets.sharedKey }}".into();
        manifest["Marbles"]["hello"]["Parameters"]["Env"]["PASSWORD"] = "{{ base64 .Secrets.password }}".into();
        let roles = ["keeper", "reader"];
        manifest["Users"] = json!({"administrator": {"Certificate": self.read("admin.pem")?, "Roles": roles}});
        let role = |secret: &str, action: &str| json!({"ResourceType": "Secrets", "ResourceNames": [secret], "Actions": [action]});
        manifest["Roles"] =
            json!({"keeper": role("password", "WriteSecret"), "reader": role("sharedKey", "ReadSecret")});
        manifest["RecoveryKeys"] = json!({"administrator": self.read("recovery.pub")?});
        Ok(format!("{manifest:#}\n"))
    }

    /// Uploads the password.
    pub(super) fn upload(&self) -> Result<()> {
        print!("{}", succeed(&mut self.cli(&["secret", "set", "password.json"], &WHO))?);
        Ok(())
    }

    /// Uploads the password, and learns the generated key and the recovery secret, which are looked for from now on.
    pub(super) fn upload_and_read(&self, planted: &mut Planted) -> Result<()> {
        // Not shown: the output of a demo is public.
        let upload = json!({"password": {"Key": BASE64_STANDARD.encode(&planted.secrets["password"])}});
        fs::write(self.work.join("password.json"), upload.to_string())?;
        self.upload()?;
        let read = ["--output", "json"];
        let text = succeed(self.cli(&["secret", "get", "sharedKey"], &WHO).args(read))?;
        let secrets: Value = serde_json::from_str(&text)?;
        let key = secrets["secrets"]["sharedKey"]["Private"].as_str().context("no key was read")?;
        planted.add(self, "sharedKey", BASE64_STANDARD.decode(key)?)?;

        let recovery: Value = serde_json::from_str(&self.read("recovery.json")?)?;
        let encrypted =
            recovery["RecoverySecrets"]["administrator"].as_str().context("no recovery secret was written")?;
        fs::write(self.work.join("recovery.bin"), BASE64_STANDARD.decode(encrypted)?)?;
        let decrypt = "pkeyutl -decrypt -inkey recovery.key -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -in \
                       recovery.bin -out recovery-secret";
        succeed(Command::new("openssl").current_dir(&self.work).args(decrypt.split_whitespace()))?;
        planted.add(self, "recovery secret", fs::read(self.work.join("recovery-secret"))?)?;
        say("looked for from now on: the password, the key that the Coordinator generated, the recovery secret");
        Ok(())
    }
}
