//! Other judges than the lab: moto's server, and the AWS CLI with its own models of what AWS answers.
//!
//! Of what `hostagent fleet` calls, moto 5.2.5 has `GetDocument`, `DescribeDocument`, `CreateDocument`, `UpdateDocument`,
//! `UpdateDocumentDefaultVersion`, `DeleteDocument`, `AddTagsToResource`, `SendCommand`, `ListCommands`, `GetParameter`,
//! `PutParameter`, `DeleteParameter`, and ECS's `ListContainerInstances` and `DescribeContainerInstances`. To the others it
//! answers 500 with a page of HTML: `ListCommandInvocations`, every operation of associations, and all of Automation. So
//! there is no rollout here, and no `install --associate`. `moto_account.py` answers three of those with empty lists or
//! moto's own records, and refuses to start when moto has them. A command for named instances goes to all that moto has,
//! so that `check --instance` shows nothing here.

use super::support::{Fleet, PYTHON, Said, id, said};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const DOCUMENTS: [(&str, &str); 4] = [
    ("HostAgent-Check", "Command"),
    ("HostAgent-Restart", "Command"),
    ("HostAgent-Install", "Command"),
    ("HostAgent-Rollout", "Automation"),
];
const HALT: &str = "/hostagent/prod/halt";
/// Real time within which a rollout of three simulated hosts has ended.
const PATIENCE: Duration = Duration::from_secs(120);

/// An account, and the programs pointed at it.
struct Account {
    environment: Vec<(String, String)>,
    dir: tempfile::TempDir,
}

impl Account {
    fn of(environment: Vec<(String, String)>) -> Self {
        Self { environment, dir: tempfile::tempdir().expect("a directory") }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.dir.path()).env("USER", "tester");
        command.envs(self.environment.iter().cloned()).args(arguments).stdin(Stdio::null());
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Said {
        said(self.command(program, arguments).output().expect(program))
    }

    /// `hostagent fleet …`, with an exit code and words that must be in what it says.
    #[track_caller]
    fn fleet(&self, code: i32, arguments: &[&str], words: &[&str]) {
        let config = self.dir.path().to_str().expect("a path");
        let said = self.run(env!("CARGO_BIN_EXE_hostagent"), &[&["--config-dir", config, "fleet"], arguments].concat());
        let all = format!("{}{}", said.out, said.err);
        assert_eq!(said.code, code, "hostagent fleet {}:\n{all}", arguments.join(" "));
        for word in words {
            assert!(all.contains(word), "hostagent fleet {} does not say {word:?}:\n{all}", arguments.join(" "));
        }
    }

    /// `aws …`: the AWS CLI itself.
    fn try_aws(&self, arguments: &[&str]) -> Said {
        let aws = PYTHON.with_file_name("aws");
        self.run(aws.to_str().expect("a path"), arguments)
    }

    #[track_caller]
    fn aws(&self, arguments: &[&str]) -> Value {
        let said = self.try_aws(&[arguments, &["--output", "json"]].concat());
        assert_eq!(said.code, 0, "aws {}:\n{}{}", arguments.join(" "), said.out, said.err);
        if said.out.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&said.out)
            .unwrap_or_else(|error| panic!("aws {}: {error}: {}", arguments.join(" "), said.out))
    }

    /// The documents, put in as a person without this program would.
    fn install(&self) {
        for (name, kind) in DOCUMENTS {
            let content = format!("file://packaging/ssm/{name}.yaml");
            let made = self.aws(&[
                "ssm",
                "create-document",
                "--name",
                name,
                "--document-type",
                kind,
                "--document-format",
                "YAML",
                "--content",
                &content,
                "--tags",
                "Key=team,Value=platform",
            ]);
            assert_eq!(made["DocumentDescription"]["Name"], name, "{made:#}");
            assert_eq!(made["DocumentDescription"]["DocumentType"], kind, "{made:#}");
        }
    }

    /// A new version of a document with one line changed, and the default.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let ours = fs::read_to_string(format!("{}/packaging/ssm/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).expect(name);
        assert!(ours.contains(from), "{name} has no {from}");
        let path = self.dir.path().join("theirs.yaml");
        fs::write(&path, ours.replace(from, to)).expect("write");
        let content = format!("file://{}", path.display());
        let updated = self.aws(&[
            "ssm",
            "update-document",
            "--name",
            name,
            "--document-version",
            "$LATEST",
            "--document-format",
            "YAML",
            "--content",
            &content,
        ]);
        let version = updated["DocumentDescription"]["DocumentVersion"].as_str().expect("a version").to_owned();
        self.aws(&["ssm", "update-document-default-version", "--name", name, "--document-version", &version]);
    }

    /// What both judges must say of the documents.
    fn cli_installs_edits_and_sends(&self, instance: &str, restored: u32) {
        self.install();
        self.edit("HostAgent-Check", "timeoutSeconds: '60'", "timeoutSeconds: '61'");
        let described = self.aws(&["ssm", "describe-document", "--name", "HostAgent-Check"]);
        assert_eq!(described["Document"]["DefaultVersion"], "2", "{described:#}");
        let parameters = described["Document"]["Parameters"].as_array().expect("parameters");
        assert!(
            parameters.iter().any(|one| one["Name"] == "Require" && one["DefaultValue"] == "agent"),
            "{described:#}"
        );
        let content = self.aws(&["ssm", "get-document", "--name", "HostAgent-Check", "--document-format", "YAML"]);
        assert!(content["Content"].as_str().unwrap().contains("timeoutSeconds: '61'"), "{content:#}");
        let tags = self.aws(&[
            "ssm",
            "list-tags-for-resource",
            "--resource-type",
            "Document",
            "--resource-id",
            "HostAgent-Check",
        ]);
        assert_eq!(tags["TagList"][0]["Value"], "platform", "{tags:#}");
        // What the console makes of a form, and what people type.
        for parameters in ["Require=agent,Strict=no", r#"{"Require":["all"]}"#] {
            let sent = self.aws(&[
                "ssm",
                "send-command",
                "--document-name",
                "HostAgent-Check",
                "--instance-ids",
                instance,
                "--parameters",
                parameters,
                "--max-concurrency",
                "100%",
                "--max-errors",
                "100%",
            ]);
            let command = sent["Command"]["CommandId"].as_str().expect("a command").to_owned();
            self.aws(&["ssm", "wait", "command-executed", "--command-id", &command, "--instance-id", instance]);
            let got = self.aws(&["ssm", "get-command-invocation", "--command-id", &command, "--instance-id", instance]);
            assert_eq!((&got["Status"], &got["ResponseCode"]), (&"Success".into(), &0.into()), "{got:#}");
            let listed = self.aws(&["ssm", "list-commands", "--command-id", &command]);
            assert_eq!(listed["Commands"][0]["Status"], "Success", "{listed:#}");
        }
        self.aws(&["ssm", "put-parameter", "--name", HALT, "--type", "String", "--value", "by hand"]);
        let halt = self.aws(&["ssm", "get-parameter", "--name", HALT]);
        assert_eq!(halt["Parameter"]["Value"], "by hand");
        // Whoever takes over with this program finds all of it.
        self.fleet(12, &["status", "--cluster", "prod"], &["the parameter holds \"by hand\""]);
        self.fleet(0, &["resume", "--cluster", "prod"], &["may move again"]);
        let gone = self.try_aws(&["ssm", "get-parameter", "--name", HALT]);
        assert!(gone.code != 0 && gone.err.contains("ParameterNotFound"), "{}{}", gone.out, gone.err);
        // SSM's words for a content that is there already leave open whether an older version counts; to moto it does.
        let version = format!("version {restored} is the default now; it was 2");
        // It did not make them, and leaves them alone until it is told to take them over.
        let left =
            ["1 of 4 documents in eu-west-1 are somebody else's", "it has no tag hostagent:managed-by", "--adopt"];
        self.fleet(12, &["install"], &left);
        self.fleet(0, &["uninstall"], &["0 documents were removed", "somebody else's, left as it is"]);
        let words = ["4 of 4 documents", "taken over as it is", "-    timeoutSeconds: '61'", &version];
        self.fleet(0, &["install", "--adopt"], &words);
        self.fleet(0, &["uninstall"], &["4 documents were removed"]);
        let gone = self.try_aws(&["ssm", "describe-document", "--name", "HostAgent-Check"]);
        assert!(gone.code != 0 && gone.err.contains("InvalidDocument"), "{}{}", gone.out, gone.err);
    }
}

/// moto's server. Dropped, it ends.
struct Moto {
    account: Account,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Moto {
    fn start() -> Self {
        let mut child = Command::new(PYTHON.as_path())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fleet/moto_account.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A line for each request.
            .stderr(Stdio::null())
            .spawn()
            .expect("python");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        while !line.starts_with("http") {
            line.clear();
            let read = output.read_line(&mut line).expect("a line");
            assert!(read > 0, "moto did not start: run {} tests/fleet/moto_account.py", PYTHON.display());
        }
        let environment = [
            ("AWS_ENDPOINT_URL", line.trim_end()),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAMOTOMOTOMOTOMOTO"),
            ("AWS_SECRET_ACCESS_KEY", "moto-has-no-secrets"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { account: Account::of(environment.into()), child, output }
    }

    /// Ends it: who answered what, `moto GetDocument 200` or `here ListAssociations`.
    fn end(mut self) -> BTreeSet<String> {
        drop(self.child.stdin.take());
        let mut lines = String::new();
        self.output.read_to_string(&mut lines).expect("its calls");
        lines.lines().map(str::to_owned).collect()
    }

    /// The container instances that ECS lists.
    fn instances(&self) -> Vec<String> {
        let arns = self.account.aws(&["ecs", "list-container-instances", "--cluster", "prod"]);
        let arns: Vec<String> = serde_json::from_value(arns["containerInstanceArns"].clone()).expect("ARNs");
        let arns: Vec<&str> = arns.iter().map(String::as_str).collect();
        let asked = [&["ecs", "describe-container-instances", "--cluster", "prod", "--container-instances"], &arns[..]];
        let found = self.account.aws(&asked.concat());
        let found = found["containerInstances"].as_array().expect("instances").iter();
        found.map(|one| one["ec2InstanceId"].as_str().expect("an ID").to_owned()).collect()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn answered_by_moto(calls: &BTreeSet<String>, actions: &[&str]) {
    for action in actions {
        assert!(calls.contains(&format!("moto {action} 200")), "moto did not answer {action}: {calls:#?}");
    }
    let failed: Vec<&String> = calls.iter().filter(|call| call.ends_with(" 500")).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn moto_takes_the_documents_and_keeps_the_halt() {
    let moto = Moto::start();
    let account = &moto.account;
    account.fleet(0, &["install", "--dry-run"], &["4 of 4 documents in eu-west-1 would be changed"]);
    account.fleet(0, &["install"], &["4 of 4 documents were put into eu-west-1"]);
    account.fleet(0, &["install"], &["the documents in eu-west-1 are up to date", "up to date (version 1)"]);
    account.edit("HostAgent-Restart", "default: 5m", "default: 6m");
    // Twice the same content is no new version to it: the first one is the default again.
    let words = ["1 of 4 documents", "-    default: 6m", "+    default: 5m", "version 1 is the default now; it was 2"];
    account.fleet(0, &["install"], &words);
    account.edit("HostAgent-Restart", "default: 5m", "default: 7m");
    account.fleet(0, &["install", "--dry-run"], &["would be brought up to date from version 3"]);
    account.fleet(0, &["install"], &["version 1 is the default now; it was 3"]);
    account.fleet(0, &["install"], &["are up to date"]);
    let tags = account.aws(&[
        "ssm",
        "list-tags-for-resource",
        "--resource-type",
        "Document",
        "--resource-id",
        "HostAgent-Restart",
    ]);
    assert!(tags.to_string().contains("hostagent:content-sha256"), "{tags:#}");
    account.fleet(0, &["uninstall"], &["4 documents were removed", "there was no association"]);
    account.fleet(0, &["uninstall"], &["0 documents were removed"]);

    account.fleet(0, &["status", "--cluster", "prod"], &["cluster prod is not halted"]);
    account.fleet(0, &["stop", "--cluster", "prod", "--why", "INC-1 \"quoted\" – $(no)"], &["HALTED"]);
    account.fleet(12, &["status", "--cluster", "prod"], &["INC-1 \"quoted\" – $(no)"]);
    let halt = account.aws(&["ssm", "get-parameter", "--name", HALT]);
    let halt: Value = serde_json::from_str(halt["Parameter"]["Value"].as_str().unwrap()).unwrap();
    assert_eq!((&halt["schema"], &halt["why"]), (&"hostagent/halt/1".into(), &"INC-1 \"quoted\" – $(no)".into()));
    account.fleet(0, &["resume", "--cluster", "prod"], &["it was halted by"]);
    account.fleet(0, &["status", "--cluster", "prod"], &["cluster prod is not halted"]);
    let calls = moto.end();
    let actions = [
        "CreateDocument",
        "UpdateDocument",
        "UpdateDocumentDefaultVersion",
        "AddTagsToResource",
        "GetDocument",
        "DescribeDocument",
        "DeleteDocument",
        "PutParameter",
        "GetParameter",
        "DeleteParameter",
    ];
    answered_by_moto(&calls, &actions);
}

#[test]
fn hosts_of_moto_are_asked_by_cluster_and_tag() {
    let moto = Moto::start();
    let instances = moto.instances();
    assert_eq!(instances.len(), 3);
    moto.account.fleet(0, &["install"], &[]);
    // Its commands end well at once on every host, and print nothing: that is no verdict.
    let words = ["3 could not tell", "the command ended and printed nothing", &instances[0], &instances[2]];
    moto.account.fleet(1, &["check", "--cluster", "prod"], &words);
    moto.account.fleet(1, &["check", "--tag", "Cluster=prod"], &words);
    moto.account.fleet(1, &["check", "--tag", "Cluster=other"], &["no host of tag Cluster=other was found"]);
    let calls = moto.end();
    answered_by_moto(&calls, &["SendCommand", "ListCommands", "ListContainerInstances", "DescribeContainerInstances"]);
}

#[test]
fn the_aws_cli_and_moto_agree_on_the_documents() {
    let moto = Moto::start();
    let instance = moto.instances().remove(0);
    moto.account.cli_installs_edits_and_sends(&instance, 1);
    answered_by_moto(&moto.end(), &["CreateDocument", "UpdateDocument", "SendCommand", "GetCommandInvocation"]);
}

#[test]
fn the_stack_is_packaged_with_the_documents_as_they_are() {
    let moto = Moto::start();
    let account = &moto.account;
    account.aws(&[
        "s3api",
        "create-bucket",
        "--bucket",
        "templates",
        "--create-bucket-configuration",
        "LocationConstraint=eu-west-1",
    ]);
    let packaged = account.dir.path().join("packaged.yaml");
    let said = account.try_aws(&[
        "cloudformation",
        "package",
        "--template-file",
        "packaging/cloudformation/hostagent.yaml",
        "--s3-bucket",
        "templates",
        "--output-template-file",
        packaged.to_str().expect("a path"),
    ]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let template = fs::read_to_string(packaged).expect("the template");
    for (name, kind) in DOCUMENTS {
        let resource =
            template.split("AWS::SSM::Document").skip(1).find(|text| text.contains(&format!("Name: {name}\n")));
        let resource = resource.unwrap_or_else(|| panic!("{name} is not in {template}"));
        assert!(resource.contains(&format!("DocumentType: {kind}\n")), "{resource}");
        let address = resource.lines().find_map(|line| line.trim().strip_prefix("Location: ")).expect("an address");
        let uploaded = account.dir.path().join(name);
        let path = uploaded.to_str().expect("a path");
        let said = account.try_aws(&["s3", "cp", address, path]);
        assert_eq!(said.code, 0, "{address}: {}{}", said.out, said.err);
        let ours = fs::read(format!("{}/packaging/ssm/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).expect(name);
        assert_eq!(fs::read(uploaded).expect("the upload"), ours, "{name}");
    }
}

#[test]
fn the_aws_cli_and_the_lab_agree_on_the_documents() {
    let fleet = Fleet::of(3);
    Account::of(fleet.cloud.environment()).cli_installs_edits_and_sends(&id(1), 3);
}

#[test]
fn whoever_has_the_aws_cli_alone_can_roll_out_and_stop() {
    let fleet = Fleet::rolling(3);
    let account = Account::of(fleet.cloud.environment());
    let start = |parameters: &str| {
        account.try_aws(&[
            "ssm",
            "start-automation-execution",
            "--document-name",
            "HostAgent-Rollout",
            "--parameters",
            parameters,
            "--query",
            "AutomationExecutionId",
            "--output",
            "text",
        ])
    };
    // The CLI splits at commas and equal signs; what is no value of a parameter is refused by the document.
    const ROLE: &str = "AutomationAssumeRole=arn:aws:iam::111122223333:role/HostAgent-Rollout";
    let refused = start(&format!("Cluster=prod;reboot,{ROLE}"));
    assert!(refused.code != 0 && refused.err.contains("Cluster"), "{}{}", refused.out, refused.err);
    let id = start(&format!("Cluster=prod,Pause=1,ZoneShare=100,{ROLE}")).out.trim().to_owned();
    let began = Instant::now();
    let execution = loop {
        let got = account.aws(&["ssm", "get-automation-execution", "--automation-execution-id", &id]);
        let status = got["AutomationExecution"]["AutomationExecutionStatus"].as_str().expect("a status").to_owned();
        if !["Pending", "InProgress", "Waiting"].contains(&status.as_str()) {
            break got["AutomationExecution"].clone();
        }
        assert!(began.elapsed() < PATIENCE, "{got:#}");
        sleep(Duration::from_millis(500));
    };
    assert_eq!(execution["AutomationExecutionStatus"], "Success", "{execution:#}");
    assert!(execution["Outputs"]["Summary.Text"][0].as_str().unwrap().contains("3 moved"), "{execution:#}");
    let filter = "Key=DocumentNamePrefix,Values=HostAgent-Rollout";
    let listed = account.aws(&["ssm", "describe-automation-executions", "--filters", filter]);
    assert_eq!(listed["AutomationExecutionMetadataList"][0]["AutomationExecutionId"], id.as_str(), "{listed:#}");
    let steps = account.aws(&["ssm", "describe-automation-step-executions", "--automation-execution-id", &id]);
    let steps = steps["StepExecutions"].as_array().expect("steps").clone();
    assert!(steps.iter().any(|step| step["StepName"] == "Advance" && step["StepStatus"] == "Success"), "{steps:#?}");
    let commands = account.aws(&["ssm", "list-commands", "--filters", "key=DocumentName,value=HostAgent-Restart"]);
    let command = commands["Commands"][0]["CommandId"].as_str().expect("a command").to_owned();
    let answers = account.aws(&["ssm", "list-command-invocations", "--command-id", &command, "--details"]);
    let output = &answers["CommandInvocations"][0]["CommandPlugins"][0]["Output"];
    assert!(output.as_str().unwrap().starts_with("MOVED: "), "{answers:#}");
    account.fleet(0, &["follow", &id], &["MOVED: cluster prod: 3 moved"]);

    let unrolled = start("Cluster=prod");
    assert!(unrolled.code != 0 && unrolled.err.contains("AutomationAssumeRole"), "{}{}", unrolled.out, unrolled.err);
    let second = start(&format!("Cluster=prod,{ROLE}")).out.trim().to_owned();
    account.aws(&["ssm", "stop-automation-execution", "--automation-execution-id", &second, "--type", "Cancel"]);
    account.fleet(12, &["follow", &second], &["HALTED"]);
}
