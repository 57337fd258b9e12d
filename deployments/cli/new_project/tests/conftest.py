# Gives the fixture `stack`: Darkroom with this project, on a simulated provider. Nothing is paid.
pytest_plugins = ["darkroom.testing"]
