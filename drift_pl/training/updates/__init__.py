"""Updates of the policy from an iteration's images and advantages, one file each."""
