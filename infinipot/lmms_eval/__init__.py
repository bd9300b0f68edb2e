"""infinipot as a model of lmms-eval: `lmms-eval --model infinipot --model_args pretrained=...`.

lmms-eval finds it through the entry point group `lmms_eval.models`. infinipot itself works without lmms-eval, so what
needs it is imported only when lmms-eval asks. See docs/guides/lmms-eval.md.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> "ModelManifest":
    """The name and the class of the model, as lmms-eval's registry takes them."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="infinipot", chat_class_path="infinipot.lmms_eval.model.Infinipot")
