"""Methods that the levers are compared with, one small file each; `incentive.method` takes their names.

They share the base algorithm with DRIFT, so that a comparison differs in the method and in nothing else.
"""
