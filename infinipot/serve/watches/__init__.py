"""Standing questions: asked again and again, and what happened when an answer changed."""
