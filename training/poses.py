"""How people hold themselves: turns of bones, drawn by chance within what joints allow.

A pose is degrees by name, which mix linearly, so that a body moves from one pose to another. Axes as in body.py.
"""

from __future__ import annotations

import numpy as np

from body import Body, Points

Pose = dict[str, float]
MANNERS = ("stand", "walk", "act", "sit", "kneel", "reach")
SHARES = (0.16, 0.16, 0.34, 0.14, 0.06, 0.14)
FINGERS = ("index", "middle", "ring", "pinky")


def draw_pose(manner: str, rng: np.random.Generator) -> Pose:
    """A pose of that manner."""
    wild = {"act": 1.0, "reach": 0.7, "kneel": 0.6}.get(manner, 0.35)
    pose = {
        "bend": rng.normal(4, 22 * wild),
        "lean": rng.normal(0, 12 * wild),
        "twist": rng.normal(0, 22 * wild),
        "nod": rng.normal(0, 16),
        "look": rng.normal(0, 26),
        "tilt": rng.normal(0, 9),
    }
    for side in "lr":
        pose |= {f"{name}_{side}": value for name, value in (_leg(manner, rng) | _arm(manner, rng)).items()}
    if manner == "walk":
        stride = rng.uniform(-32, 32)
        pose |= {"hip_l": stride, "hip_r": -stride, "swing_l": -stride, "swing_r": stride}
    return pose


def _leg(manner: str, rng: np.random.Generator) -> Pose:
    """Degrees forward and outward in the hip, about the thigh, in knee and ankle."""
    if manner == "sit":
        return {"hip": rng.normal(84, 12), "apart": rng.normal(6, 10), "knee": rng.normal(82, 22), "ankle": 0.0}
    if manner == "kneel":
        return {"hip": rng.normal(40, 35), "apart": rng.normal(8, 8), "knee": rng.uniform(70, 140), "ankle": -25.0}
    if manner == "act":
        knee = abs(rng.normal(0, 45))
        return {"hip": rng.normal(22, 38), "apart": rng.normal(14, 20), "knee": knee, "ankle": rng.normal(0, 18)}
    return {"hip": rng.normal(0, 9), "apart": rng.normal(2, 5), "knee": abs(rng.normal(0, 14)), "ankle": 0.0}


def _arm(manner: str, rng: np.random.Generator) -> Pose:
    """Degrees of the upper arm above its rest, forward, about itself; of elbow, wrist and fingers."""
    free = manner in ("act", "reach") or rng.random() < 0.25
    return {
        "raise": rng.uniform(-40, 125) if free else rng.normal(-32, 9),
        "swing": rng.normal(15, 40) if free else rng.normal(4, 14),
        "roll": rng.normal(0, 40 if free else 15),
        "elbow": rng.uniform(0, 140) if free or rng.random() < 0.4 else abs(rng.normal(0, 25)),
        "wrist": rng.normal(0, 20),
        "fist": rng.uniform(0, 70),
    }


def mixed(first: Pose, last: Pose, share: float) -> Pose:
    """The pose on the way from one to another."""
    return {name: (1 - share) * first[name] + share * last[name] for name in first}


def joint_rotations(pose: Pose, body: Body, heads: Points, tails: Points) -> dict[str, Points]:
    """The matrices (3, 3) by which bones turn in a pose."""
    found = {
        "neck_01": about("x", pose["nod"] / 2) @ about("y", pose["look"] / 2),
        "head": about("x", pose["nod"] / 2) @ about("y", pose["look"] / 2) @ about("z", pose["tilt"]),
    }
    for name in ("spine_01", "spine_02", "spine_03"):
        found[name] = about("y", pose["twist"] / 3) @ about("x", pose["bend"] / 3) @ about("z", pose["lean"] / 3)
    for side, sign in (("l", 1.0), ("r", -1.0)):
        get = {name[:-2]: value for name, value in pose.items() if name.endswith(f"_{side}")}
        upper, lower = (body.number[f"{part}arm_{side}"] for part in ("upper", "lower"))
        along = [tails[n] - heads[n] for n in (upper, lower)]
        raised = about("z", sign * get["raise"])
        found[f"clavicle_{side}"] = about("z", sign * max(0.0, get["raise"]) / 6)
        swung = about("y", -sign * get["swing"]) if get["raise"] > 0 else about("x", -get["swing"])
        found[f"upperarm_{side}"] = swung @ raised @ rotation(along[0], sign * get["roll"])
        found[f"lowerarm_{side}"] = rotation(np.cross(along[1], (0, 0, 1)), min(145.0, get["elbow"]))
        found[f"hand_{side}"] = about("z", sign * get["wrist"])
        found[f"thigh_{side}"] = about("x", -get["hip"]) @ about("z", sign * get["apart"])
        found[f"calf_{side}"] = about("x", min(150.0, max(0.0, get["knee"])))
        found[f"foot_{side}"] = about("x", get["ankle"])
        for finger in FINGERS:
            found |= {f"{finger}_0{n}_{side}": about("z", -sign * get["fist"]) for n in (1, 2, 3)}
    return found


def about(axis: str, degrees: float) -> Points:
    """Turn about x, y or z."""
    return rotation(np.eye(3)["xyz".index(axis)], degrees)


def rotation(axis: Points, degrees: float) -> Points:
    """Turn about any axis (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross, angle = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
