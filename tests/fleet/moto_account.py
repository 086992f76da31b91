"""A moto server on a free port of 127.0.0.1, whose address it prints, with a cluster `prod` of three instances in it.

What moto has not, and hostagent fleet asks for, is answered here as an account would in which nothing was ever run; the
day moto has it, this refuses to start. Every call is a line on standard output: `moto GetDocument 200`, `here ListAssociations`.
"""

import io
import json
import os
import sys
import threading

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.ssm.models import ssm_backends
from moto.ssm.responses import SimpleSystemManagerResponse
from werkzeug.serving import make_server

REGION, ACCOUNT = "eu-west-1", "123456789012"


def invocations(asked):
    """moto keeps them and lists them one by one only. Its commands succeed everywhere at once, and print nothing."""
    command = ssm_backends[ACCOUNT][REGION].get_command_by_id(asked["CommandId"])
    listed = ("CommandId", "InstanceId", "Comment", "DocumentName", "Status", "StatusDetails")
    return {"CommandInvocations": [{key: each[key] for key in listed} | {"CommandPlugins": []} for each in command.invocations]}


LACKS = {
    "ListAssociations": ("list_associations", lambda asked: {"Associations": []}),
    "DescribeAutomationExecutions": ("describe_automation_executions", lambda asked: {"AutomationExecutionMetadataList": []}),
    "ListCommandInvocations": ("list_command_invocations", invocations),
}
for name, (method, _) in LACKS.items():
    if hasattr(SimpleSystemManagerResponse, method):
        sys.exit(f"moto has {name} by now: take it out of {__file__}")

app = DomainDispatcherApplication(create_backend_app)


def say(line):
    print(line, flush=True)


def answer(environ, start):
    action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    if environ.get("HTTP_X_AMZ_TARGET", "").startswith("AmazonSSM"):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        asked = json.loads(body or b"{}")
        if action in LACKS:
            say(f"here {action}")
            start("200 OK", [("Content-Type", "application/x-amz-json-1.1")])
            return [json.dumps(LACKS[action][1](asked)).encode()]
        # Two things that SSM documents and moto does not know: a version called so, and instances as targets.
        if action == "GetDocument" and asked.get("DocumentVersion") == "$DEFAULT":
            del asked["DocumentVersion"]
        if action == "SendCommand" and [each["Key"] for each in asked.get("Targets", [])] == ["InstanceIds"]:
            asked["InstanceIds"] = asked.pop("Targets")[0]["Values"]
        body = json.dumps(asked).encode()
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))

    def told(status, headers, *rest):
        if action:
            say(f"moto {action} {status.split()[0]}")
        return start(status, headers, *rest)

    return app(environ, told)


server = make_server("127.0.0.1", 0, answer, threaded=True)
url = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()

os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
ec2, ecs = (boto3.client(name, region_name=REGION, endpoint_url=url) for name in ("ec2", "ecs"))
ecs.create_cluster(clusterName="prod")
image = ec2.describe_images()["Images"][0]["ImageId"]
tags = [{"ResourceType": "instance", "Tags": [{"Key": "Cluster", "Value": "prod"}]}]
for each in ec2.run_instances(ImageId=image, MinCount=3, MaxCount=3, TagSpecifications=tags)["Instances"]:
    ecs.register_container_instance(cluster="prod", instanceIdentityDocument=json.dumps({"instanceId": each["InstanceId"]}))
say(url)
# Whoever started this ends it with its input.
sys.stdin.read()
