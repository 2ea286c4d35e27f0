"""Write models in the forms that other programs and places expect."""

from captionless.exports.run import export as export
