"""Foreign models behind one narrow protocol; the only room that imports diffusers and peft. A family is a file."""
