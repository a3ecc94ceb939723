"""Checks a description (OpenAPI 3.1), and answers against it.

Usage: validate.py DESCRIPTION ANSWERS
ANSWERS is JSON: a list of {"method", "path", "status", "body"}; path is as the description has it.
Says what is wrong and ends with 1, or says how many answers were checked.
"""
import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate


def schema_of(api, answer):
    operation = api["paths"][answer["path"]][answer["method"].lower()]
    status = str(answer["status"])
    responses = operation["responses"]
    response = responses.get(status) or responses[status[0] + "XX"]
    schema = response["content"]["application/json"]["schema"]
    # References lead to where the description has them.
    return {**schema, "components": api["components"]}


def main():
    with open(sys.argv[1]) as file:
        api = json.load(file)
    with open(sys.argv[2]) as file:
        answers = json.load(file)
    validate(api)
    wrong = 0
    for answer in answers:
        validator = Draft202012Validator(schema_of(api, answer))
        for error in validator.iter_errors(answer["body"]):
            wrong += 1
            where = "/".join(str(part) for part in error.absolute_path)
            print(f'{answer["method"]} {answer["path"]} {answer["status"]}: {where}: {error.message}', file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(len(answers))


main()
