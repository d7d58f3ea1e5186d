"""Job definitions and conda recipe, validated with the tools of their formats: Kubernetes' schemas, AWS's and Google's own types,
rattler-build's parser. Usage: check_definitions.py REPOSITORY"""
import glob
import json
import sys

import botocore.session
import kubernetes_validate
from botocore.validate import ParamValidator
from google.cloud.batch_v1 import Job
from rattler_build import Stage0Recipe, VariantConfig


def kubernetes(definition):
    kubernetes_validate.validate(definition, "1.31", strict=True)


def aws(definition):
    batch = botocore.session.get_session().get_service_model("batch")
    shape = batch.operation_model("RegisterJobDefinition").input_shape
    problems = ParamValidator().validate(definition, shape)
    assert not problems.has_errors(), problems.generate_report()
    unknown = definition.keys() - shape.members.keys()
    assert not unknown, unknown


def google(definition):
    Job.from_json(json.dumps(definition), ignore_unknown_fields=False)


def recipe(path):
    variants = VariantConfig({"target_platform": ["linux-64"], "c_compiler": ["gcc"], "cxx_compiler": ["gxx"], "rust_compiler": ["rust"], "c_stdlib": ["sysroot"]})
    rendered = [variant.recipe for variant in Stage0Recipe.from_file(path).render(variants)]
    assert len(rendered) == 1, rendered
    print(path, rendered[0].package.name, rendered[0].package.version)


repository = sys.argv[1]
checks = {"kubernetes": kubernetes, "aws-batch": aws, "google-batch": google}
for place, check in checks.items():
    files = sorted(glob.glob(f"{repository}/containers/jobs/*/{place}.json"))
    assert files, place
    for file in files:
        with open(file) as text:
            check(json.load(text))
    print(place, len(files))
recipe(f"{repository}/conda/recipe.yaml")
