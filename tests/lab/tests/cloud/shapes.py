"""Calls every operation of the test cloud with boto3, and compares each answer with botocore's model of it."""

import datetime
import json
import sys
import time

import boto3
from botocore.exceptions import ClientError

DOCUMENT = """
schemaVersion: '2.2'
description: looks
parameters:
  Word: {type: String, default: none, allowedPattern: '^[a-z]+$', interpolationType: ENV_VAR}
mainSteps:
- {action: aws:runShellScript, name: look, inputs: {runCommand: ['echo {{ Word }}']}}
"""
CLUSTER = [{"Key": "tag:Cluster", "Values": ["prod"]}]
wrong = []


def compare(value, shape, where):
    """Puts in `wrong` what in a raw JSON value is not as the model has it."""
    kind = shape.type_name
    if kind == "structure":
        for name, member in value.items():
            if name not in shape.members:
                wrong.append(f"{where}.{name} is not in the model")
            elif member is not None:
                compare(member, shape.members[name], f"{where}.{name}")
    elif kind == "list":
        for member in value:
            compare(member, shape.member, f"{where}[]")
    elif kind == "map":
        for member in value.values():
            compare(member, shape.value, f"{where}{{}}")
    else:
        types = {"string": str, "boolean": bool, "integer": int, "long": int, "timestamp": (int, float, str)}
        if not isinstance(value, types.get(kind, (int, float))):
            wrong.append(f"{where} is {value!r}, not {kind}")
        enum = shape.metadata.get("enum")
        if enum and value and value not in enum:
            wrong.append(f"{where} is {value!r}, not one of {enum}")


def client(service):
    made = boto3.client(service)

    def look(response_dict, operation_model, **_):
        body = response_dict["body"]
        if response_dict["status_code"] == 200 and body[:1] == b"{" and operation_model.output_shape:
            compare(json.loads(body), operation_model.output_shape, operation_model.name)

    made.meta.events.register("before-parse", look)
    return made


ssm, ecs, ec2, alarms, sts = map(client, ("ssm", "ecs", "ec2", "cloudwatch", "sts"))


def pages(made, operation, member, **input):
    return [item for page in made.get_paginator(operation).paginate(**input) for item in page[member]]


def refused(kind, call, **input):
    try:
        call(**input)
    except ClientError as error:
        assert error.response["Error"]["Code"] == kind, error
    else:
        raise AssertionError(f"{call} with {input} was answered")


def until(look):
    """What `look` gives as soon as it is anything; the test that runs this bounds it."""
    while not (found := look()):
        time.sleep(0.05)
    return found


assert sts.get_caller_identity()["Account"] == "111122223333"
role = sts.assume_role(RoleArn="arn:aws:iam::111122223333:role/operator", RoleSessionName="shapes")["Credentials"]
keys = (role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"])
assert boto3.Session(*keys).client("sts").get_caller_identity()["Account"] == "111122223333"
refused("UnrecognizedClientException", boto3.client("ssm", aws_access_key_id="A" * 20, aws_secret_access_key="x").list_documents)

ssm.create_document(Name="Look", Content=DOCUMENT, DocumentFormat="YAML", Tags=[{"Key": "a", "Value": "b"}])
ssm.update_document(Name="Look", Content=DOCUMENT + "#\n", DocumentFormat="YAML", DocumentVersion="$LATEST")
ssm.update_document_default_version(Name="Look", DocumentVersion="2")
assert ssm.describe_document(Name="Look")["Document"]["DefaultVersion"] == "2"
assert ssm.get_document(Name="Look", DocumentFormat="YAML")["Content"].endswith("#\n")
assert ssm.list_documents(Filters=[{"Key": "Owner", "Values": ["Self"]}])["DocumentIdentifiers"][0]["Name"] == "Look"
assert len(ssm.list_document_versions(Name="Look")["DocumentVersions"]) == 2
ssm.add_tags_to_resource(ResourceType="Document", ResourceId="Look", Tags=[{"Key": "c", "Value": "d"}])
ssm.remove_tags_from_resource(ResourceType="Document", ResourceId="Look", TagKeys=["a"])
assert ssm.list_tags_for_resource(ResourceType="Document", ResourceId="Look")["TagList"] == [{"Key": "c", "Value": "d"}]

nodes = pages(ssm, "describe_instance_information", "InstanceInformationList")
arns = pages(ecs, "list_container_instances", "containerInstanceArns", cluster="prod")
reservations = pages(ec2, "describe_instances", "Reservations", Filters=[{"Name": "tag:Cluster", "Values": ["prod"]}])
instances = [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]]
assert len(nodes) == len(arns) == len(instances) == 51, (len(nodes), len(arns), len(instances))
described = ecs.describe_container_instances(cluster="prod", containerInstances=arns, include=["TAGS"])
assert [host["ec2InstanceId"] for host in described["containerInstances"]] == instances
assert described["containerInstances"][0]["capacityProviderName"] == "hosts-a", described["containerInstances"][0]
providers = ecs.describe_capacity_providers(capacityProviders=["hosts-a", "none"])
group = providers["capacityProviders"][0]["autoScalingGroupProvider"]["autoScalingGroupArn"]
assert group.endswith(":autoScalingGroupName/hosts-a") and providers["failures"][0]["reason"] == "MISSING", providers
assert pages(ecs, "list_clusters", "clusterArns") and ecs.describe_clusters(clusters=["prod"])["clusters"]
refused("InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"])

sent = ssm.send_command(DocumentName="Look", Targets=CLUSTER, MaxConcurrency="100%", Comment="shapes")["Command"]
refused("InvalidParameters", ssm.send_command, DocumentName="Look", Targets=CLUSTER, Parameters={"Word": ["$(id)"]})
command = {"CommandId": sent["CommandId"]}
until(lambda: [of for of in ssm.list_commands(**command)["Commands"] if of["Status"] == "Success"])
invocations = pages(ssm, "list_command_invocations", "CommandInvocations", Details=True, **command)
assert len(invocations) == 51 and invocations[0]["CommandPlugins"][0]["Output"] == "none\n", invocations[0]
assert ssm.get_command_invocation(InstanceId=instances[0], **command)["Status"] == "Success"
ssm.cancel_command(**command)

ssm.put_parameter(Name="/hostagent/prod/halt", Value="{}", Type="String")
refused("ParameterAlreadyExists", ssm.put_parameter, Name="/hostagent/prod/halt", Value="{}", Type="String")
assert ssm.get_parameter(Name="/hostagent/prod/halt")["Parameter"]["Value"] == "{}"
assert ssm.get_parameters(Names=["/hostagent/prod/halt", "/x"])["InvalidParameters"] == ["/x"]
assert len(pages(ssm, "get_parameters_by_path", "Parameters", Path="/hostagent", Recursive=True)) == 1
ssm.delete_parameter(Name="/hostagent/prod/halt")
refused("ParameterNotFound", ssm.get_parameter, Name="/hostagent/prod/halt")

assert ssm.get_calendar_state(CalendarNames=["Window"])["State"] == "CLOSED"
alarm = alarms.describe_alarms(AlarmNames=["errors"])["MetricAlarms"][0]
assert alarm["StateValue"] == "ALARM" and isinstance(alarm["StateUpdatedTimestamp"], datetime.datetime), alarm

made = ssm.create_association(Name="Look", Targets=CLUSTER, ScheduleExpression="rate(1 day)", MaxConcurrency="100%")
association = {"AssociationId": made["AssociationDescription"]["AssociationId"]}
ssm.start_associations_once(AssociationIds=list(association.values()))
done = lambda: [of for of in pages(ssm, "describe_association_executions", "AssociationExecutions", **association) if of["Status"] == "Success"]
execution = until(done)[0]["ExecutionId"]
targets = pages(ssm, "describe_association_execution_targets", "AssociationExecutionTargets", ExecutionId=execution, **association)
assert len(targets) == 51
ssm.update_association(Name="Look", Targets=CLUSTER, **association)
assert ssm.describe_association(**association)["AssociationDescription"]["AssociationVersion"] == "2"
assert len(pages(ssm, "list_associations", "Associations")) == 1
ssm.delete_association(**association)

summary = {"ExecutionTime": datetime.datetime.now(datetime.timezone.utc)}
item = {"Id": "path", "Severity": "HIGH", "Status": "NON_COMPLIANT", "Title": "public", "Details": {"why": "x"}}
host = {"ResourceId": instances[0], "ResourceType": "ManagedInstance"}
ssm.put_compliance_items(ComplianceType="Custom:HostAgent", ExecutionSummary=summary, Items=[item], **host)
assert len(pages(ssm, "list_compliance_items", "ComplianceItems", ResourceIds=instances[:1])) == 1
assert len(pages(ssm, "list_resource_compliance_summaries", "ResourceComplianceSummaryItems")) == 1
inventory = {"TypeName": "Custom:HostAgent", "SchemaVersion": "1.0", "CaptureTime": "2026-11-24T00:00:00Z", "Content": [{"a": "b"}]}
ssm.put_inventory(InstanceId=instances[0], Items=[inventory])
assert ssm.list_inventory_entries(InstanceId=instances[0], TypeName="Custom:HostAgent")["Entries"] == [{"a": "b"}]
ssm.delete_document(Name="Look")

if wrong:
    sys.exit("\n".join(sorted(set(wrong))))
