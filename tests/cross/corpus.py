"""The models the cross-checks run on, with inputs that run.

Three groups, each listed under a stable name:

* ``models/...``   the files of the corpus (``SECATEUR_CORPUS``);
* ``arch/...``     the corpus' architecture skeletons, filled with seeded weights into a cache folder;
* ``light/...``    the models that the ``onnx`` package ships for its own backend tests, whose weights are
  ``ConstantOfShape`` nodes: folding them without a limit turns 80 KB into 100 MB.
"""

import glob
import json
import os
import subprocess
import sys
import tempfile
import zlib

import numpy as np
import onnx

FIXTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "fixtures")


class Model:
    """One model file with its name and the recipe of its inputs."""

    def __init__(self, name, path, recipe):
        self.name = name
        self.path = path
        self.recipe = recipe

    def inputs(self, seed):
        return draw(self.recipe, seed)


def folder():
    """The corpus folder, or None where there is none."""
    path = os.environ.get("SECATEUR_CORPUS", "")
    return path if os.path.isdir(path) else None


def arch_folder(corpus):
    """The folder with the filled architectures: SECATEUR_ARCH if set, or a cache that is filled once."""
    given = os.environ.get("SECATEUR_ARCH", "")
    if os.path.isdir(given):
        return given
    cache = os.path.join(tempfile.gettempdir(), "secateur-cross-arch")
    skeletons = sorted(glob.glob(os.path.join(corpus, "arch", "*.onnx")))
    if any(not os.path.exists(os.path.join(cache, os.path.basename(s))) for s in skeletons):
        script = os.path.join(corpus, "materialize.py")
        partial = tempfile.mkdtemp(prefix="secateur-cross-arch-")
        subprocess.run([sys.executable, script, "--all", "-o", partial], check=True, stdout=subprocess.DEVNULL)
        os.makedirs(cache, exist_ok=True)
        for file in os.listdir(partial):
            os.replace(os.path.join(partial, file), os.path.join(cache, file))
        os.rmdir(partial)
    return cache


def draw(recipe, seed):
    """Inputs from a recipe: dtype, shape, and either a constant value or a range (integers half-open)."""
    feeds = {}
    for name, entry in recipe.items():
        rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
        dtype = np.dtype(entry["dtype"])
        shape = tuple(entry["shape"])
        if "value" in entry:
            feeds[name] = np.full(shape, entry["value"], dtype)
        elif dtype.kind in "iu":
            feeds[name] = rng.integers(int(entry["lo"]), int(entry["hi"]), shape).astype(dtype)
        else:
            feeds[name] = rng.uniform(entry["lo"], entry["hi"], shape).astype(dtype)
    return feeds


def recipe_from_graph(model):
    """A recipe from the declared shapes: unknown and symbolic sizes are 2. None where an input is no tensor of known rank."""
    defaults = {tensor.name for tensor in model.graph.initializer}
    recipe = {}
    for value in model.graph.input:
        if value.name in defaults:
            continue
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            return None
        tensor = value.type.tensor_type
        shape = [dim.dim_value if dim.dim_value > 0 else 2 for dim in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        recipe[value.name] = {"dtype": np.dtype(dtype).name, "shape": shape, "lo": -1, "hi": 1}
    return recipe


def corpus_models(groups=("models", "arch", "light")):
    """Every model of the corpus that has a recipe, sorted by name; empty where there is no corpus."""
    found = []
    corpus = folder()
    if corpus:
        with open(os.path.join(corpus, "inputs.json")) as file:
            recipes = json.load(file)
        arch = arch_folder(corpus) if "arch" in groups else None
        for name in sorted(recipes):
            group = name.split("/")[0]
            if group not in groups:
                continue
            path = os.path.join(arch, os.path.basename(name)) if group == "arch" else os.path.join(corpus, name)
            if os.path.exists(path):
                found.append(Model(name, path, recipes[name]))
    if "light" in groups:
        found += light_models()
    return found


def every_model():
    """What a check runs on: the corpus where there is one, else the fixtures; the onnx package's models in both cases."""
    found = corpus_models()
    return found if folder() else found + fixture_models()


def light_models():
    base = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "light")
    found = []
    for path in sorted(glob.glob(os.path.join(base, "*.onnx"))):
        recipe = recipe_from_graph(onnx.load(path, load_external_data=False))
        if recipe:
            found.append(Model("light/" + os.path.basename(path), path, recipe))
    return found


def fixture_models():
    """Models committed with the project: what the checks run on where there is no corpus."""
    found = []
    for path in sorted(glob.glob(os.path.join(FIXTURES, "*.onnx"))):
        recipe = recipe_from_graph(onnx.load(path, load_external_data=False))
        if recipe:
            found.append(Model("fixtures/" + os.path.basename(path), path, recipe))
    return found
