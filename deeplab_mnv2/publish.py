"""Write weights with a model card, as a repository of the Hugging Face hub, and upload it if asked.

  python -m deeplab_mnv2.publish --weights RUN@best --output FOLDER [--push owner/name]

The folder holds model.safetensors, with settings, classes, provenance and scores in its metadata,
and README.md, the card, made from them. `--weights hf://owner/name` then names the network wherever
weights are read, and so does `--weights FOLDER`. Nothing leaves this machine without --push, which
needs pip install 'deeplab_mnv2[hf]' and a login (hf auth login).
"""

from pathlib import Path

from absl import flags

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.model_card import model_card
from deeplab_mnv2.files import optional_module, reason, replace_atomically


def publish(source: weights.Weights, folder: Path, name: str) -> None:
    """Write the folder of a repository called `name`, such as "owner/name".

    Raises:
        UserError: it cannot be written, or the weights are of a backbone alone.
    """
    card = model_card(source, name)
    # Kernels in float16, as the package keeps its own: half the size, the same classes.
    weights.save(folder / "model.safetensors", source, half=True)
    with replace_atomically(folder / "README.md") as temporary:
        temporary.write_text(card, encoding="utf-8")


def push(folder: Path, name: str) -> str:
    """Upload the folder to the hub as `name`, which is made if need be; return its address.

    Raises:
        UserError: the hub cannot be reached or refuses.
    """
    hub = optional_module("huggingface_hub", extra="hf")
    client = hub.HfApi()
    try:
        client.create_repo(name, exist_ok=True)
        client.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=["README.md", "model.safetensors"],
            commit_message=f"Weights of {name} with their card",
        )
    except Exception as error:
        # The hub's client raises its own, its HTTP library's and the system's errors.
        raise UserError(
            f"{name} cannot be uploaded ({reason(error)}); log in with hf auth login and check the "
            f"name and the network. Everything lies in {folder}."
        ) from error
    return f"hf://{name}"


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    if not given.output:
        raise UserError("Give --output FOLDER, the folder of the repository.")
    folder = Path(given.output)
    if given.push.count("/") != (1 if given.push else 0):
        raise UserError(f"--push {given.push} is no name of the hub; write owner/name.")
    source = weights.read(command.weights_source(str(weights.PACKAGED)))
    command.require_writable(folder, "--output")
    publish(source, folder, given.push or f"owner/{folder.resolve().name}")
    print(f"{folder}: model.safetensors and README.md, its card")
    if given.push:
        print(f"uploaded; --weights {push(folder, given.push)} reads it")


if __name__ == "__main__":
    # Here, not above: commands share flag names, and a program may import several of them.
    command.define_weights()
    flags.DEFINE_string("output", None, "Folder of the repository.")
    flags.DEFINE_string("push", "", "Upload it under this name: owner/name.")
    command.run(main)
