-- doctor.directory
SELECT current_setting('data_directory')
