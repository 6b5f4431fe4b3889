"""Result and upload files: signed URLs and downloads."""
