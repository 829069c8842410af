"""Published methods that DRIFT is compared with, one small file each, by name in `incentive.method`.

They share the base algorithm with DRIFT, so runs that are compared differ in the method only.
"""
