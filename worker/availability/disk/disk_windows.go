package disk

import "golang.org/x/sys/windows"

func free(dir string) (uint64, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var mine uint64 // within the quota of this user
	err = windows.GetDiskFreeSpaceEx(path, &mine, nil, nil)
	return mine, err
}
