"""What is made on the cluster: jobs and their pods, one file a back end."""
