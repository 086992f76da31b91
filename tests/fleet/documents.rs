//! The SSM documents in an account.

use super::support::Fleet;
use serde_json::json;

#[test]
fn documents_are_changed_only_when_their_content_is_another() {
    let fleet = Fleet::of(1);
    fleet.says(0, &["install", "--dry-run"], &["4 of 4 documents in eu-west-1 would be changed", "would be created"]);
    assert_eq!(fleet.cloud.calls("CreateDocument"), 0, "a dry run changes nothing");
    fleet.says(0, &["install"], &["4 of 4 documents were put into eu-west-1"]);
    fleet.says(0, &["install"], &["the documents in eu-west-1 are up to date", "up to date (version 1)"]);
    assert_eq!((fleet.cloud.calls("CreateDocument"), fleet.cloud.calls("UpdateDocument")), (4, 0));
}

/// Through the API itself: what somebody's script would do.
fn call(fleet: &Fleet, action: &str, input: &serde_json::Value) -> serde_json::Value {
    let shared = fleet.cloud.shared();
    shared.call("ssm", action, input).unwrap_or_else(|error| panic!("{action}: {error:?}"))
}

#[test]
fn somebody_elses_change_is_shown_and_put_right() {
    let fleet = Fleet::of(1);
    fleet.ok(&["install"]);
    let name = "HostAgent-Check";
    let stored = call(&fleet, "GetDocument", &json!({ "Name": name, "DocumentFormat": "YAML" }));
    let ours = stored["Content"].as_str().unwrap().to_owned();
    let theirs = ours.replace("timeoutSeconds: '60'", "timeoutSeconds: '7'");
    let update = json!({ "Name": name, "Content": theirs, "DocumentFormat": "YAML", "DocumentVersion": "$LATEST" });
    call(&fleet, "UpdateDocument", &update);
    call(&fleet, "UpdateDocumentDefaultVersion", &json!({ "Name": name, "DocumentVersion": "2" }));
    let words = [
        "1 of 4 documents",
        "version 3 is the default now; it was 2",
        "-    timeoutSeconds: '7'",
        "+    timeoutSeconds: '60'",
    ];
    fleet.says(0, &["install"], &words);
    // The default set back to an older version that is not ours, while the latest is.
    call(&fleet, "UpdateDocumentDefaultVersion", &json!({ "Name": name, "DocumentVersion": "2" }));
    fleet.says(0, &["install"], &["version 3 is the default now; it was 2"]);
    fleet.says(0, &["install"], &["are up to date"]);
}

#[test]
fn a_document_that_somebody_else_made_is_left_alone() {
    let fleet = Fleet::of(1);
    fleet.ok(&["install"]);
    let name = "HostAgent-Restart";
    // As a stack of CloudFormation leaves it.
    let tags = json!([{ "Key": "hostagent:managed-by", "Value": "cloudformation" }]);
    let theirs =
        "schemaVersion: '2.2'\nmainSteps:\n- {name: a, action: 'aws:runShellScript', inputs: {runCommand: [id]}}\n";
    call(&fleet, "DeleteDocument", &json!({ "Name": name }));
    call(
        &fleet,
        "CreateDocument",
        &json!({ "Name": name, "DocumentType": "Command", "DocumentFormat": "YAML", "Content": theirs, "Tags": tags }),
    );
    // Another one is out of date, and is not touched either.
    call(&fleet, "DeleteDocument", &json!({ "Name": "HostAgent-Install" }));
    let (made, updated) = (fleet.cloud.calls("CreateDocument"), fleet.cloud.calls("UpdateDocument"));
    let words = [
        "REFUSED: 1 of 4 documents in eu-west-1 are somebody else's; nothing was changed",
        "its tag hostagent:managed-by is cloudformation",
        "--adopt",
        "-- {name: a, action",
        "HostAgent-Install  would be created",
    ];
    fleet.says(12, &["install", "--associate", "Cluster=prod"], &words);
    assert_eq!((fleet.cloud.calls("CreateDocument"), fleet.cloud.calls("UpdateDocument")), (made, updated));
    assert_eq!((fleet.cloud.calls("CreateAssociation"), fleet.cloud.calls("AddTagsToResource")), (0, 0));
    fleet.says(0, &["uninstall", "--dry-run"], &["somebody else's, left as it is"]);
    fleet.says(0, &["install", "--adopt", "--dry-run"], &["would be brought up to date from version 1"]);
    fleet.says(0, &["install", "--adopt"], &["2 of 4 documents", "version 2 is the default now; it was 1"]);
    fleet.says(0, &["install"], &["are up to date"]);
    fleet.says(0, &["uninstall"], &["4 documents were removed"]);
}

#[test]
fn an_association_is_one_for_each_tag_and_goes_away_with_the_documents() {
    let fleet = Fleet::of(1);
    let created = ["association HostAgent-Check-Cluster-prod-", " created", "rate(1 hour)", "10% at once"];
    fleet.says(0, &["install", "--associate", "Cluster=prod"], &created);
    let again = ["install", "--associate", "Cluster=prod", "--schedule", "rate(2 hours)"];
    fleet.says(0, &again, &["association HostAgent-Check-Cluster-prod-", " brought up to date", "rate(2 hours)"]);
    assert_eq!(fleet.cloud.calls("CreateAssociation"), 1);
    // Another tag's is another one, and somebody's own is theirs.
    fleet.says(0, &["install", "--associate", "Cluster=te st"], &["association HostAgent-Check-Cluster-te-st-"]);
    let own = json!({"Name": "HostAgent-Check", "AssociationName": "own", "Targets": [{"Key": "tag:Cluster", "Values": ["a"]}]});
    call(&fleet, "CreateAssociation", &own);
    let both = ["association HostAgent-Check-Cluster-prod-", "association HostAgent-Check-Cluster-te-st-"];
    fleet.says(0, &["uninstall", "--dry-run"], &[&both[..], &["nothing was removed", "would be removed"]].concat());
    fleet.says(0, &["uninstall"], &[&both[..], &["4 documents were removed", " removed"]].concat());
    assert_eq!(fleet.cloud.calls("DeleteAssociation"), 2);
    fleet.says(0, &["uninstall"], &["0 documents were removed", "there was no association"]);
}
