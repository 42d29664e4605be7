"""ms-swift's grounding rows: ``<bbox>`` and ``<ref-object>`` stand for items of ``objects``."""

import re
from typing import Any

from components.rewrite_paths.draft import Draft, Form, Row, RowError
from components.rewrite_paths.formats.numbers import json_text
from omnistage.files import counted

_PLACE = re.compile("<(bbox|ref-object)>")


def settle_objects(row: Row, draft: Draft, split: Form) -> None:
    """Give a grounding row its boxes and names.

    A record to fine-tune on keeps ``objects``, so that the trainer scales the boxes with the image.
    Elsewhere names and boxes are written out: the gold answer has the boxes of the row, in pixels
    of the image as it is.

    Raises:
        RowError: ``bad_objects``, if places and objects do not fit, or a box is none.
    """
    objects = row.get("objects")
    if objects in (None, {}, "", "{}"):
        return
    if isinstance(objects, dict) and all(value in (None, []) for value in objects.values()):
        objects = {}
    if not isinstance(objects, dict):
        raise RowError("bad_objects", "objects: an object with ref and bbox is needed")
    names, boxes = objects.get("ref") or [], objects.get("bbox") or []
    _check(objects, names, boxes)
    draft.dropped += [
        f"objects.{key}" for key in objects if key not in ("ref", "bbox", "bbox_type", "image_id")
    ]
    places = [kind for m in draft.messages for kind in _PLACE.findall(m["content"])]
    for kind, items, key in (("ref-object", names, "ref"), ("bbox", boxes, "bbox")):
        if places.count(kind) != len(items):
            raise RowError(
                "bad_objects",
                f"{places.count(kind)} <{kind}> in the text but {len(items)} in objects.{key}",
            )
    if not objects:
        return
    if split == "sft":
        kept = ("ref", "bbox", "bbox_type", "image_id")
        draft.objects = {key: objects[key] for key in kept if key in objects}
    last = draft.messages[-1]
    if objects.get("bbox_type") not in (None, "real") and split != "sft":
        raise RowError("bad_objects", "objects.bbox_type: a gold answer needs pixels (real)")
    if isinstance(draft.solution, str) and _PLACE.search(draft.solution):
        draft.solution = _filled(draft.solution, draft.messages[-1], names, boxes)
    queues = {"ref-object": iter(names), "bbox": iter(map(json_text, boxes))}
    for message in draft.messages:
        written = _PLACE.sub(lambda m: next(queues[m[1]]), message["content"])
        if message is last and last["role"] == "assistant" and draft.solution is None:
            draft.solution = written
        if split == "sft":
            continue
        if message["role"] != "assistant" and "<bbox>" in message["content"]:
            raise RowError("bad_objects", "a <bbox> in a prompt is read for sft only")
        message["content"] = written


def _filled(solution: str, last: dict[str, Any], names: list[str], boxes: list[Any]) -> str:
    """Return a gold answer with the names and boxes that its places stand for: the last ones."""
    wanted = _PLACE.findall(solution)
    given = _PLACE.findall(last["content"]) if last["role"] == "assistant" else []
    if given and given != wanted:
        raise RowError("bad_objects", "solution: other <bbox> and <ref-object> than in the answer")
    items = {"ref-object": names, "bbox": [json_text(box) for box in boxes]}
    if any(wanted.count(kind) > len(items[kind]) for kind in items):
        raise RowError("bad_objects", "solution: more <bbox> or <ref-object> than in objects")
    queues = {kind: iter(items[kind][len(items[kind]) - wanted.count(kind) :]) for kind in items}
    return _PLACE.sub(lambda m: next(queues[m[1]]), solution)


def check_images(objects: dict[str, Any] | None, images: int) -> None:
    """Check that ``objects.image_id`` names images of the record, a number for each box.

    Raises:
        RowError: ``bad_objects``, if it does not.
    """
    named = (objects or {}).get("image_id")
    if named is None or objects is None:
        return
    if not isinstance(named, list) or len(named) != len(objects.get("bbox") or []):
        raise RowError("bad_objects", "objects.image_id: a number for each box is needed")
    for number in named:
        if type(number) is not int or not 0 <= number < images:
            raise RowError(
                "bad_objects",
                f"objects.image_id: {json_text(number)} names none of "
                f"{counted(images, 'image')}; the first is 0",
            )


def _check(objects: dict[str, Any], names: Any, boxes: Any) -> None:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RowError("bad_objects", "objects.ref: a list of texts is needed")
    fits = isinstance(boxes, list) and all(
        isinstance(box, list)
        and len(box) in (2, 4)
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in box)
        for box in boxes
    )
    if not fits:
        raise RowError("bad_objects", "objects.bbox: a list of two or four numbers each is needed")
    if objects.get("bbox_type") not in (None, "real", "norm1"):
        raise RowError("bad_objects", "objects.bbox_type: real or norm1 is needed")
