"""What the lessons in `tutorials/` share: options, checks, pictures; and the list of them all."""

from microgpt.learn.lesson import Lesson, LessonError, images, long_text, start

__all__ = ["Lesson", "LessonError", "images", "long_text", "start"]
